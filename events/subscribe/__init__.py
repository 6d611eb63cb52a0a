"""events.subscribe: event streams in, up to the index that they change.

Owns the listening sockets, the queue towards the consumer, and the sources: each alone writes its
holders' part of the index. Never decides who is listened to.

The way in: `StreamSource` (`stream_source.py`).

    stream_source.py   the seam: `StreamSource`, `WritableIndex`, `StoredListener`
    native_source.py   `NativeSource`: a rank of our own worker
    engine_source.py   `EngineSource`: another engine with all its ranks
    subscriber.py      `EventSubscriber`: native streams over ZeroMQ, from a thread of its own
    connection.py      one source's sockets
    inbox.py           the bounded queue between that thread and its consumer
    offer.py           who takes messages from the sockets: their consumer, if it comes
"""
