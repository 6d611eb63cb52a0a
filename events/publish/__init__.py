"""events.publish: a worker's event streams out, one a rank.

Owns seqs, what is kept for whoever missed some, and the account of what is resident: the publisher
alone has a mirror, fed by its own events and never by an engine's tree. `publish` never blocks.

The way in: `EventPublisher` (`publisher.py`).

    publisher.py          `EventPublisher`: the native stream, its thread and sockets
    outbound.py           the same without sockets: seq, ring, mirror, heartbeat
    mirror.py             what the stream says is resident: accounts and snapshots
    ring.py               the newest batches as they were sent
    transfers.py          resends and snapshots on their way out, paced
    listening.py          the two sockets a publisher binds
    compat_publisher.py   the stream in vLLM's form, with vLLM's replay endpoint; off by default
"""
