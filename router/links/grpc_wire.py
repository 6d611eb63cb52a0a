"""gRPC wire: a worker session as the `Session` stream. One task reads, one writes."""

import asyncio
from collections.abc import Callable

import grpc
from google.protobuf.message import DecodeError

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.router.errors import JoinRefused
from radixroute.router.links.session_wire import SessionEnded
from radixroute.router.links.wire import step_reports
from radixroute.router.messages.inputs import StepReport


class GrpcWire:
    """Implements `SessionWire`."""

    def __init__(self, stub: rpc.EngineStub) -> None:
        self._stub = stub
        self._call: grpc.aio.StreamStreamCall | None = None
        self._outbox: asyncio.Queue[pb.EngineRequest] = asyncio.Queue()

    async def open(self, hello: pb.OpenSession) -> None:
        self._call = call = self._stub.Session()
        await call.write(pb.EngineRequest(open=hello))
        answer = await call.read()
        if answer is grpc.aio.EOF or not answer.opened:
            # Raises the status the worker closed with, if it did.
            code = await call.code()
            raise JoinRefused(f"the worker did not open a session: {code.name}")

    def send(self, message: pb.EngineRequest) -> None:
        self._outbox.put_nowait(message)

    async def relay(self, received: Callable[[StepReport], None]) -> None:
        if self._call is None:
            raise RuntimeError("open() comes first")
        writer = asyncio.create_task(self._write(self._call))
        try:
            while (output := await self._call.read()) is not grpc.aio.EOF:
                for number, report in enumerate(step_reports(output)):
                    if number:
                        await asyncio.sleep(0)  # others have their turn
                    received(report)
        except DecodeError as error:
            raise SessionEnded(f"the session broke: {error}") from error
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)

    def close(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def _write(self, call: grpc.aio.StreamStreamCall) -> None:
        while True:
            await call.write(await self._outbox.get())
