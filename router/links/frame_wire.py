"""Frame wire: a worker session over a plain socket, as `protos/frames.py` says.

No task and no future for a message: what the transport hands in goes to whoever listens, at once.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Callable, Iterator
from typing import cast

from google.protobuf.message import DecodeError

from radixroute.events.net.tcp import keep_alive
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos.frames import HELLO, BadFrame, FrameReader, framed
from radixroute.router.links.attempts import Attempts
from radixroute.router.links.session_place import SessionPlace
from radixroute.router.links.session_wire import SessionEnded
from radixroute.router.links.wire import step_reports
from radixroute.router.messages.inputs import StepReport


class FrameWire(asyncio.Protocol):
    """Implements `SessionWire`."""

    def __init__(
        self,
        place: SessionPlace,
        max_message_bytes: int,
        tls: ssl.SSLContext | None = None,
        name: str = "",
    ) -> None:
        """`tls`: of this side; `name`: that the worker's certificate should have, empty: its
        host."""
        self._place = place
        self._tls = tls
        self._name = name
        self._frames = FrameReader(max_message_bytes)
        self._attempts = Attempts()
        self._transport: asyncio.Transport | None = None
        loop = asyncio.get_running_loop()
        self._opened: asyncio.Future[None] = loop.create_future()
        self._ended: asyncio.Future[None] = loop.create_future()
        self._received: Callable[[StepReport], None] | None = None
        self._waiting: deque[Iterator[StepReport]] = deque()  # parts of steps behind a turn
        self._closing = ""

    async def open(self, hello: pb.OpenSession) -> None:
        await self._place.connect(self, self._tls, self._name)
        hello.takes_columns = True
        self.send(pb.EngineRequest(open=hello))
        await self._opened

    def send(self, message: pb.EngineRequest) -> None:
        match message.WhichOneof("kind"):
            case "submit":
                self._attempts.begin(message.submit)
            case "abort":
                self._attempts.end(message.abort.request_id, message.abort.attempt)
        if self._transport is not None:
            self._transport.write(framed(message.SerializeToString()))

    async def relay(self, received: Callable[[StepReport], None]) -> None:
        self._received = received
        await self._ended

    def close(self) -> None:
        self._received = None
        self._waiting.clear()
        if self._transport is not None:
            self._transport.abort()
        for future in (self._opened, self._ended):
            if future.done() and not future.cancelled():
                future.exception()  # whoever waited has it; nobody is to be told again
            future.cancel()

    # -- what the transport calls

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = stream = cast(asyncio.Transport, transport)
        keep_alive(stream)
        stream.write(HELLO)

    def data_received(self, data: bytes) -> None:
        try:
            for frame in self._frames.feed(data):
                self._take(pb.StepOutput.FromString(frame))
        except (BadFrame, DecodeError) as error:
            self._break(f"the session broke: {error}")
        except SessionEnded as error:
            self._break(str(error))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport = None
        why = self._closing or "the session broke"
        for future in (self._opened, self._ended):
            if not future.done():
                future.set_exception(SessionEnded(why))

    def _break(self, why: str) -> None:
        self._closing = why
        if self._transport is not None:
            self._transport.abort()

    def _take(self, output: pb.StepOutput) -> None:
        if output.closing:
            self._closing = f"the worker ended the session: {output.closing}"
        elif output.opened and not self._opened.done():
            self._opened.set_result(None)
        elif self._received is not None:
            has_rows = output.HasField("columns")
            rows = self._attempts.deltas(output.columns) if has_rows else ()
            for delta in output.deltas:
                if delta.finish_reason:
                    self._attempts.end(delta.request_id, delta.attempt)
            reports = step_reports(output, rows)
            if self._waiting:
                self._waiting.append(reports)
                return
            self._received(next(reports))
            self._go_on_with(reports)

    def _go_on_with(self, reports: Iterator[StepReport]) -> None:
        """Others have their turn before the next part, if there is one."""
        rest = next(reports, None)
        if rest is not None:
            self._waiting.append(_from(rest, reports))
            asyncio.get_running_loop().call_soon(self._next_turn)

    def _next_turn(self) -> None:
        if self._received is None or not self._waiting:
            return
        report = next(self._waiting[0], None)
        if report is None:
            self._waiting.popleft()
            self._next_turn()
            return
        asyncio.get_running_loop().call_soon(self._next_turn)
        self._received(report)


def _from(first: StepReport, rest: Iterator[StepReport]) -> Iterator[StepReport]:
    yield first
    yield from rest
