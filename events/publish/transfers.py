"""Resends and snapshots on their way out: at most one a peer, a few messages a turn.

Owns the publisher's ROUTER socket. Sending is paced so that a long snapshot neither delays
batches and heartbeats nor fills memory for a peer that does not read.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import zmq

from radixroute.events.net.frames import offer_frames, take_frames

# 8 parts of 8,192 blocks are encoded in a few milliseconds.
_MESSAGES_A_TURN = 8
# A peer that took nothing for this long gets nothing: it will ask again.
_STALLED_NS = 10_000_000_000
_MAX_FRAMES = 4


@dataclass(slots=True)
class _Transfer:
    messages: Iterator[tuple[bytes, ...]]
    moved_ns: int
    pending: tuple[bytes, ...] | None = None  # encoded, and refused by a full peer


class Transfers:
    """What is being sent to whom. Used by the publisher's thread only."""

    def __init__(self, socket: zmq.Socket[bytes], max_active: int) -> None:
        self._socket = socket
        self._max_active = max_active
        self._by_peer: dict[bytes, _Transfer] = {}
        self.failed = 0

    @property
    def active(self) -> int:
        return len(self._by_peer)

    def receive(self) -> tuple[bytes, list[bytes]] | None:
        """The next request: the peer's identity and what it sent; None if there is none."""
        try:
            peer, *frames = take_frames(self._socket)
        except zmq.Again:
            return None
        return peer, frames[:_MAX_FRAMES]

    def may_start(self, peer: bytes) -> bool:
        return peer not in self._by_peer and len(self._by_peer) < self._max_active

    def start(self, peer: bytes, messages: Iterator[tuple[bytes, ...]], now_ns: int) -> None:
        """Begins sending `messages`, which are made as they are sent."""
        self._by_peer[peer] = _Transfer(messages, now_ns)

    def advance(self, now_ns: int) -> bool:
        """Sends a turn's worth to every peer; whether all of them take no more for now."""
        is_busy = True
        for peer, transfer in list(self._by_peer.items()):
            for _ in range(_MESSAGES_A_TURN):
                if not self._send_next(peer, transfer, now_ns):
                    break
                is_busy = False
        return is_busy

    def _send_next(self, peer: bytes, transfer: _Transfer, now_ns: int) -> bool:
        message = transfer.pending or next(transfer.messages, None)
        if message is None:
            del self._by_peer[peer]
            return False
        try:
            offer_frames(self._socket, (peer, *message))
        except zmq.Again:
            transfer.pending = message
            if now_ns - transfer.moved_ns > _STALLED_NS:
                self._fail(peer)
            return False
        except zmq.ZMQError:  # EHOSTUNREACH: the peer is gone
            self._fail(peer)
            return False
        transfer.pending, transfer.moved_ns = None, now_ns
        return True

    def _fail(self, peer: bytes) -> None:
        del self._by_peer[peer]
        self.failed += 1
