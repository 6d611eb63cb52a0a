"""The event sockets of a fake engine: PUB, and ROUTER with the last batches."""

import asyncio
import time
from collections import deque
from typing import Any

import msgpack
import zmq

TOPIC = b"kv-events"
END = (b"", b"", b"\xff" * 8, b"")


class FakeEvents:
    """`publish` for each step; replays are answered from a task, as vLLM does between batches."""

    def __init__(
        self,
        ports: tuple[int, int] = (0, 0),
        buffer_steps: int = 10_000,
        *,
        topic: bytes = TOPIC,
        rank: int | None = 0,
    ) -> None:
        self._topic, self._rank = topic, rank
        self._context = zmq.Context()
        self._pub = self._bound(zmq.PUB, ports[0])
        self._router = self._bound(zmq.ROUTER, ports[1])
        self.ports = _port_of(self._pub), _port_of(self._router)
        self._ring: deque[tuple[int, bytes]] = deque(maxlen=buffer_steps)
        self.seq = 0
        self.answers_replays = True
        self.loses = 0  # so many of the next batches reach nobody live
        self._answering = asyncio.create_task(self._answer())

    def publish(self, events: list[dict[str, Any]]) -> None:
        payload = msgpack.packb([time.time(), events, self._rank])
        self._ring.append((self.seq, payload))
        if self.loses:
            self.loses -= 1
        else:
            self._pub.send_multipart([self._topic, self.seq.to_bytes(8, "big"), payload])
        self.seq += 1

    def close(self) -> None:
        self._answering.cancel()
        self._context.destroy(linger=0)

    async def _answer(self) -> None:
        while True:
            while self.answers_replays and self._router.poll(0):
                peer, _, first = self._router.recv_multipart()
                for seq, payload in self._ring:
                    if seq >= int.from_bytes(first, "big"):
                        reply = [peer, b"", self._topic, seq.to_bytes(8, "big"), payload]
                        self._router.send_multipart(reply)
                self._router.send_multipart([peer, *END])
            await asyncio.sleep(0.01)

    def _bound(self, kind: int, port: int) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.sndhwm = 0
        socket.bind(f"tcp://127.0.0.1:{port or '*'}")
        return socket


def _port_of(socket: "zmq.Socket[bytes]") -> int:
    return int(bytes(socket.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").rpartition(b":")[2])
