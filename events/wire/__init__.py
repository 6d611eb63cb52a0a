"""events.wire: the forms in which events travel, byte for byte.

Owns records and their codecs. Any bytes become records or one `RemoteEventError`. The digest's
constants are wire: never change them.

The way in: `records.py`, then `native.py`.

    records.py           what travels, decoded
    epoch.py             16 bytes that name one life of a cache
    native.py            batches and heartbeats
    control.py           resends and snapshots: requests and replies
    packed.py            the fast path: events as words that an index applies
    packed_kernels.py    the kernel that packs them
    msgpack_kernels.py   helpers of kernels that read MessagePack
    compat.py            vLLM's form of our events
"""
