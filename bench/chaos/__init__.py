"""`python -m bench.chaos`: streams through the client library while processes are killed.

Owns what is killed when, and the judgement of each stream against its answer without faults. Begin
with `run.py`.

    __main__.py   the command and its file
    run.py        load and faults together, and what came of it
    load.py       streams through the client library, one after the other
    faults.py     whom a fault hits, and when the fleet is ready for the next one
    wires.py      a network of its own, where what two processes say to each other is lost
    small_disk.py a folder with hardly any room, to be filled
    verdicts.py   what a client saw, judged token by token
    pauses.py     how long streams waited under each fault, and when a router served again
    blind.py      what a router that has just begun sent without knowing what was cached
    outcome.py    all of it as a record and as rows with their bars
"""
