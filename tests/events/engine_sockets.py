"""A foreign engine's two sockets on loopback: one that publishes, one that replays."""

from collections.abc import Callable

import zmq

from radixroute.events.recording.recording import Source, Wire
from tests.events.recordings import source

Replay = Callable[[list[bytes]], list[list[bytes]]]


class EngineSockets:
    """No thread: whoever tests calls `serve` while he waits."""

    def __init__(self, replay: Replay, ports: tuple[str, str] = ("*", "*")) -> None:
        self.answer = replay
        self._context = zmq.Context()
        self._pub, self._router = self._bound(zmq.XPUB, ports[0]), self._bound(zmq.ROUTER, ports[1])
        self._is_heard = False
        ends = [
            bytes(one.getsockopt(zmq.LAST_ENDPOINT)).rstrip(b"\0").decode()
            for one in (self._pub, self._router)
        ]
        self.source: Source = source(
            "vllm", b"", wire=Wire.FOREIGN, events=ends[0], control=ends[1]
        )
        self.requests: list[list[bytes]] = []

    @property
    def ports(self) -> tuple[str, str]:
        there = self.source
        return there.events.rpartition(":")[2], there.control.rpartition(":")[2]

    def publish(self, frames: list[bytes]) -> None:
        self._pub.send_multipart(frames)

    def is_heard(self) -> bool:
        """Whether somebody has subscribed: what is published from now on arrives."""
        while self._pub.poll(0):
            self._is_heard = self._pub.recv() == b"\x01"
        return self._is_heard

    def serve(self) -> None:
        """Answers what was asked, as vLLM's publisher does between two batches."""
        while self._router.poll(0):
            peer, *request = self._router.recv_multipart()
            self.requests.append(request)
            for reply in self.answer(request):
                self._router.send_multipart([peer, *reply])

    def stop(self) -> None:
        self._context.destroy(linger=0)

    def _bound(self, kind: int, port: str) -> zmq.Socket[bytes]:
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.sndhwm = 0
        socket.bind(f"tcp://127.0.0.1:{port}")
        return socket
