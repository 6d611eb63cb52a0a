"""The OpenAI door: HTTP/1.1 in the router's process, beside gRPC.

Bytes in, bytes out, in the router's loop; what is asked goes to the `Reception` as at any door, and
each token comes back by a call, without a task or a queue of its own. Peers are strangers: heads,
bodies, connections and time are bounded, and a body that is too large is refused unread. Never logs
what was asked.

The way in: `HttpDoor` in `door.py`.

    door.py             the listening socket, its connections, who waits too long
    connection.py       one client's connection: requests one after another
    request_reader.py   bytes to requests, bounded; no I/O
    replies.py          heads, chunks and errors as bytes
    routes.py           which path is answered by whom
    pages.py            models, health, metrics, the description of it all
    openapi.py          that description
    stream_head.py      the head of a stream, and signs of life until there is something to tell
    completion.py       one completion from its body to its last byte
    asked/              what clients ask
    answers.py          answers as they go out: streamed, or whole
    passing.py          an engine's own answer as it goes by
    wording.py          the JSON of answers
    probabilities.py    log probabilities in that JSON
"""
