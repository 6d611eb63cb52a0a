"""Doors of the router: how clients get in. Messages in, messages out; decisions are the core's.

A door reads what its client sent as `Asked` (`asked.py`), hands it to the `Reception` with a
stream of its own (an `AnswerSink` with an id), and translates what arrives there. Never logs a
prompt, and no exception text of ours or of a library travels.

The way in: `RouterServer.Generate` in `grpc_server.py`.

    grpc_server.py      gRPC servers of `Router` and `Inspect`
    reception.py        what is the same at every door: ids, admission, whose answer it is
    fan.py              one prompt, several answers: a request for each
    leases.py           `Route`, alone and many on one stream
    proto_request.py    a `GenerateRequest` as `Asked`
    request_ids.py      ids that a tenant can prove to be its own
    open_streams.py     which stream has a request's answer now
    wire_size.py        parts of a message before it is parsed: their size, a field alone
    client_stream.py    the gRPC door's sink: what a slow client has not taken yet, merged
    client_answers.py   the sinks of all answers to one prompt
    asked.py            what a client wants, in whatever form: a seam
    prompts.py          tokenising, limits, block keys: what every door shares
    memo/               what is remembered of tokenised prompts
    giants/             processes that read giant prompts, so that no stream waits for one
    http/               the OpenAI API over HTTP
    guard/              who may come in
    inspect.py          the router's snapshot as messages
    status.py           errors as gRPC status codes
    metrics/            what the page at `/metrics` shows of a router
"""
