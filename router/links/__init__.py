"""Links: all that speaks to workers, and the only place of the router that knows their wire.

Owns channels, worker sessions (the RPC `Session`), event streams on their way into the index, and
what the fleet agreed on when workers joined. Never decides: a link tells its listener what it saw.

The way in: `EngineLink` for requests and answers, `EventLink` for cache events.

    engine_link.py        one worker's session, reopened while the worker is listed
    session_wire.py       the seam between a link and what its session travels on
    frame_wire.py         plain frames over a socket
    session_place.py      where a worker takes them
    tls_trouble.py        why router and worker did not believe each other
    attempts.py           which attempt a session's dispatch numbers mean, and columns that use them
    grpc_wire.py          the `Session` stream
    event_link.py         every worker's event streams into the prefix index, in order
    handshake.py          does this worker belong to the fleet? What the first one decides
    tokenizer_fetch.py    the tokenizer, from a worker
    wire.py               the core's records and the `Session` stream's messages
    channel.py            options of every gRPC channel and server
"""
