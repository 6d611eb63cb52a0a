"""Worker sessions in plain frames over loopback: what gRPC's do, and what only a socket can do."""

import asyncio
import contextlib
import os
import signal
import socket
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos.frames import HELLO, FrameReader, framed
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import unpack_tokens
from radixroute.router.links.attempts import Attempts
from radixroute.router.links.wire import step_reports
from radixroute.router.messages.inputs import Delta
from radixroute.worker.api.frames import frame_server
from tests.worker.fakes import alone
from tests.worker.serving import (
    PROMPT,
    SLOW_RUNNER,
    TOKENIZER,
    all_blocks_are_free,
    collect,
    ids,
    submit,
    until,
    worker,
)

OPEN = pb.EngineRequest(open=pb.OpenSession(router_id="r", api_version=API_VERSION))


class Peer:
    """A router's end of one session."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._frames = FrameReader(1 << 24)
        self._got: list[bytes] = []

    async def write(self, message: pb.EngineRequest) -> None:
        self.send(framed(message.SerializeToString()))

    def send(self, data: bytes) -> None:
        self._writer.write(data)

    async def read(self) -> pb.StepOutput | None:
        """None: hung up."""
        while not self._got:
            try:
                data = await asyncio.wait_for(self._reader.read(1 << 16), 30)
            except ConnectionError:
                return None
            if not data:
                return None
            self._got += self._frames.feed(data)
        return pb.StepOutput.FromString(self._got.pop(0))

    async def last_words(self) -> str:
        said = ""
        while (message := await self.read()) is not None:
            said = message.closing
        return said


@asynccontextmanager
async def connected(stub, **options) -> AsyncIterator[Peer]:
    info = await stub.GetInfo(pb.GetInfoRequest())
    host, _, port = info.session_endpoint.removeprefix("tcp://").rpartition(":")
    raw = socket.socket()
    for name, value in options.items():
        raw.setsockopt(socket.SOL_SOCKET, getattr(socket, name), value)
    raw.setblocking(False)
    await asyncio.get_running_loop().sock_connect(raw, (host, int(port)))
    reader, writer = await asyncio.open_connection(sock=raw, limit=1 << 12)
    try:
        yield Peer(reader, writer)
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@asynccontextmanager
async def session(stub, *, takes_columns=False, **options) -> AsyncIterator[Peer]:
    async with connected(stub, **options) as peer:
        peer.send(HELLO)
        hello = pb.OpenSession(router_id="r", api_version=API_VERSION, takes_columns=takes_columns)
        await peer.write(pb.EngineRequest(open=hello))
        first = await peer.read()
        assert first is not None
        assert first.opened
        yield peer


async def test_a_session_in_frames_streams_what_the_engine_says():
    async with worker() as (_, stub, _), session(stub) as peer:
        for seq in (1, 2, 3):
            message = submit(f"r{seq}", [*PROMPT, seq], seq=seq, max_tokens=12)
            await peer.write(pb.EngineRequest(submit=message))
        deltas = await collect(peer, "r1", "r2", "r3")
        for seq in (1, 2, 3):
            sampling = SamplingParams(max_tokens=12, ignore_eos=True)
            assert ids(deltas[f"r{seq}"]) == alone([*PROMPT, seq], sampling)
            assert [d.position for d in deltas[f"r{seq}"]] == list(range(12))


async def test_a_router_that_takes_columns_gets_the_same_tokens_in_them():
    prompts = {f"r{seq}": [*PROMPT, seq] for seq in (1, 2, 3)}
    async with worker() as (_, stub, _), session(stub, takes_columns=True) as peer:
        attempts = Attempts()
        for seq, (name, prompt) in enumerate(prompts.items(), start=1):
            message = submit(name, prompt, seq=seq, max_tokens=12)
            attempts.begin(message)
            await peer.write(pb.EngineRequest(submit=message))
        heard: dict[str, list[Delta]] = {name: [] for name in prompts}
        n_rows = n_over = 0
        while n_over < len(prompts):
            output = await peer.read()
            assert output is not None
            rows = attempts.deltas(output.columns)
            n_rows += len(rows)
            for delta in next(step_reports(output, rows)).deltas:
                heard[delta.request_id].append(delta)
                n_over += delta.finish is not None
    assert n_rows >= 3 * 10  # all but the first, which has a report, and the last
    for name, prompt in prompts.items():
        wanted = alone(prompt, SamplingParams(max_tokens=12, ignore_eos=True))
        packed = b"".join(delta.token_ids for delta in heard[name])
        assert unpack_tokens(packed).tolist() == wanted
        assert [delta.position for delta in heard[name]] == list(range(12))
        assert "".join(delta.text for delta in heard[name]) == TOKENIZER.decode(wanted)


WRONG = {
    "another protocol": (b"GET / HTTP/1.1\r\n\r\n", "does not speak frames"),
    "too large": (HELLO + struct.pack("<I", 1 << 30), "announces 1073741824 bytes"),
    "no message": (HELLO + framed(b"\xff" * 9), "no message"),
    "no open": (
        HELLO + framed(pb.EngineRequest(submit=submit("a")).SerializeToString()),
        "must be `open`",
    ),
    "another version": (
        HELLO + framed(pb.EngineRequest(open=pb.OpenSession(api_version=99)).SerializeToString()),
        "not 99",
    ),
}


async def test_who_is_no_router_of_ours_is_told_why_and_hung_up_on():
    async with worker() as (service, stub, _):
        for data, why in WRONG.values():
            async with connected(stub) as peer:
                peer.send(data)
                assert why in await peer.last_words()
        await until(lambda: not service._frame_server._open)
        assert len(service._sessions) == 0


async def test_who_says_nothing_is_hung_up_on(monkeypatch):
    monkeypatch.setattr(frame_server, "HELLO_S", 0.05)
    async with worker() as (_, stub, _), connected(stub) as peer:
        peer.send(HELLO)
        assert "nothing was said" in await peer.last_words()


async def test_a_connection_that_breaks_takes_its_requests_along():
    async with worker(SLOW_RUNNER) as (service, stub, _):
        async with session(stub) as peer:
            await peer.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
            await until(lambda: service.in_flight == 1)
        await until(lambda: service.in_flight == 0)
        await until(lambda: len(service._sessions) == 0)
        await all_blocks_are_free(stub, 256)


async def test_a_killed_engine_ends_the_session_with_its_reason():
    async with worker(SLOW_RUNNER) as (service, stub, _), session(stub) as peer:
        await peer.write(pb.EngineRequest(submit=submit("a", max_tokens=200)))
        await until(lambda: service.in_flight == 1)
        os.kill(service.engine_pid, signal.SIGKILL)
        assert "the engine has ended" in await peer.last_words()


async def test_a_session_that_is_not_read_loses_its_requests():
    changes = {"unread_timeout_s": 0.3, "kv_memory": 1024 * 32}
    async with (
        worker(**changes) as (service, stub, _),
        session(stub, SO_RCVBUF=4096) as peer,
    ):
        for number in range(200):
            await peer.write(pb.EngineRequest(submit=submit(f"r{number}", [1], max_tokens=2000)))
        await until(lambda: service.unread_sessions == 1)
        await until(lambda: service.in_flight == 0)
        await all_blocks_are_free(stub, 4092)
