"""Companions: other engines as workers of ours, each behind its own HTTP door and event stream.

A companion is one life of one engine that is not ours, by its URL: an `EngineHost`, so that
`WorkerService` serves it as it serves an engine of ours. It speaks the engine's dialect: requests
go as token ids, tokens come back as ids, cache events become ours with our keys; where an engine
tells nothing of its cache it is believed, and said to be. Never starts an engine, never loads a
model: no torch here. Imports `worker/engine`, events, request; never `api`, `process` or `model`.

The way in: `companion` (`companion.py`), which makes the `host` of a `WorkerService`.

    http/           connections to it, kept, and what goes over them
    dialects/       what an engine takes and gives, as bytes: pure
    cache/          its cache: by its events, or believed
    join/           what must hold before it serves, each with the flag that makes it so
    measures/       what it counts, and shows on its worker's page
    verbatim/       requests that it gets as their clients wrote them
    companion.py    `Companion`: one engine from join to its end
    hearing.py      what it says of its calls, told as steps of ours
    calls.py        requests that run there, and what came back of each
    sending.py      requests on their way there, under ids of ours, and cancelled
    listening.py    one answer, from its HTTP head to its end
    texts.py        token ids for what is told as text alone
    refusals.py     what is answered without asking the engine
    ranks.py        `Ranks`: its caches, one a data-parallel rank, and which of them is asked
    tick.py         outputs of one turn as one step, and how long steps take
    watching.py     looks at it, as often as it should move
    health.py       whether it lives and moves, by what was seen
    settings.py     settings of companions, with their defaults and units
"""
