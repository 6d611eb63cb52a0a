"""Doors of the router: how clients get in. Messages in, messages out; decisions are the core's.

A door reads what its client sent as `Asked` (`asked.py`), hands it to the `Reception` with a
stream of its own (an `AnswerSink` with an id), and translates what arrives there. Never logs a
prompt, and no exception text of ours or of a library travels.

The way in: `Reception` in `reception.py`; of a client, `grpc/` and `http/`.

    reception.py        what is the same at every door: ids, admission, whose answer it is
    asked.py            what a client wants, in whatever form: a seam
    prompts.py          tokenising, limits, block keys: what every door shares
    prompt_checks.py    what a request may ask, and what it then is
    prompt_threads.py   where prompts are tokenised, so that no stream stalls behind one
    fan.py              one prompt, several answers: a request for each
    random_bits.py      unguessable bits for ids and seeds
    request_ids.py      ids that a tenant can prove to be its own
    rejections.py       how many were told to change their request, by what is wrong with it
    open_streams.py     which stream has a request's answer now
    status.py           errors as gRPC status codes
    grpc/               `Router` and `Inspect` over gRPC
    http/               the OpenAI API over HTTP
    memo/               what is remembered of tokenised prompts
    giants/             processes that read giant prompts, so that no stream waits for one
    guard/              who may come in
    metrics/            what the page at `/metrics` shows of a router
"""
