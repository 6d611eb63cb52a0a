"""events: bytes to index changes, in order; what a worker's cache did reaches every router's index.

Owns codecs, event streams, publishers and recordings, so that an index is right or known to be
wrong: a drop, wherever it happens, consumes a seq or shows in the account that each heartbeat
brings. Never chooses a worker, never touches an engine, and no token id is on the native wire. What
does I/O has a thread of its own (`net/`, `publish/`, `subscribe/`); all else is pure.

The way in: `StreamSource` (`subscribe/stream_source.py`) for whoever follows streams,
`EventPublisher` (`publish/publisher.py`) for whoever has a cache, `records.py` in `wire/` for what
travels. `docs/events.md` tells the life of a stream, the compat endpoint and recordings.

    engines/      other engines' events into ours: decoding, hashes to keys, order
    net/          threads that poll sockets, frames, binds
    publish/      a worker's streams out: native and compat, ring, mirror, snapshots
    recording/    streams in a file: recorded, listed, followed again
    session/      the state of one native stream: its table, order and requests
    subscribe/    streams in: sockets, queue, and the sources that change an index
    wire/         the native and compat forms, byte for byte
    errors.py     what can go wrong, cut by whose fault it is
    settings.py   every limit and time of the room, with its reason
    warm.py       loads every kernel of the room

*Resend*: the publisher's ring mends a gap. *Replay* is said of traces, and of vLLM's replay
endpoint. *Playback*: a recording followed again. A *stream* is one rank's; a session is a client's,
and `StreamSession` the one class that has the word.
"""
