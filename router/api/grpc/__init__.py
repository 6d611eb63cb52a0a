"""The gRPC door: calls of `Router` and `Inspect`, beside HTTP.

Messages in, messages out; what is asked goes to the `Reception` as at any door. Sizes are looked at
before anything is parsed. Never logs what was asked.

The way in: `RouterServer.Generate` in `server.py`.

    server.py           gRPC servers of `Router` and `Inspect`
    leases.py           `Route`, alone and many on one stream
    proto_request.py    a `GenerateRequest` as `Asked`
    wire_size.py        parts of a message before it is parsed: their size, a field alone
    client_stream.py    the door's sink: what a slow client has not taken yet, merged
    client_message.py   its messages as bytes
    client_answers.py   the sinks of all answers to one prompt
    coalescing.py       whether tokens go out as they come, or some together
    unread.py           clients that take nothing for too long
    inspect.py          the router's snapshot as messages
    admin.py            what changes a router, for its own machine alone
"""
