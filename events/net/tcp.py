"""TCP connections of ours: what is set on each, where the system has it."""

import asyncio
import socket

# A peer whose machine vanished sends no FIN: probes after 10 s of silence find it in 15.
_PROBES = (("TCP_KEEPIDLE", 10), ("TCP_KEEPINTVL", 5), ("TCP_KEEPCNT", 3))
_UNACKNOWLEDGED = (("TCP_USER_TIMEOUT", 15_000),)  # milliseconds, of what was sent


def keep_alive(transport: asyncio.BaseTransport, *, send_buffer_bytes: int = 0) -> None:
    """Notices a peer that is gone without a word; small messages leave at once.

    `send_buffer_bytes`: that the system keeps for a peer that does not read; 0: as it likes.
    """
    peer = transport.get_extra_info("socket")
    if peer is None or peer.family not in (socket.AF_INET, socket.AF_INET6):
        return
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    if send_buffer_bytes:
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, send_buffer_bytes)
    for name, value in (*_PROBES, *_UNACKNOWLEDGED):
        option = getattr(socket, name, None)
        if option is not None:
            peer.setsockopt(socket.IPPROTO_TCP, option, value)
