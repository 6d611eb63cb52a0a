"""Engines for `serve` whose life the test holds: a port is open while the engine lives.

The model computes in the companion process itself (`tests.worker.fakes`), so its tokens are a pure
function of the prompt. What the test has to tell a life elsewhere stands in its URL's path.
"""

import asyncio
import os
import time
from contextlib import suppress
from dataclasses import replace
from urllib.parse import urlsplit

from radixroute.worker.companion_process.frames import StartLife
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.errors import EngineDead, StartFailed
from radixroute.worker.service import WorkerService
from tests.worker.fakes import FakeRunner, make_tokenizer

ARGUMENTS = ("--make", "tests.deploy.fake_engines:service")
BLOCK_SIZE = 4
REFUSAL = "no cached_tokens: start it with --enable-prompt-tokens-details"
REFUSED, SLOW, ODD_BLOCKS = "/refused", "/slow", "/odd"
STEP_S = 0.02  # of a slow engine: streams of 100 tokens outlive what happens to them


def service(order: StartLife) -> WorkerService:
    worker = replace(order.worker, max_num_seqs=64)
    return WorkerService(
        worker,
        host=lambda listener: FakeHost(order.url, listener, worker),
        tokenizer=make_tokenizer(),
    )


class FakeHost:
    """One life; its engine is there as long as its port takes connections."""

    def __init__(self, url, listener, worker):
        self._at = urlsplit(url)
        self._listener = listener
        block_size = 2 * BLOCK_SIZE if self._at.path == ODD_BLOCKS else BLOCK_SIZE
        runner = FakeRunner(n_blocks=2048, block_size=block_size, max_model_len=4096)
        self._engine = InferenceEngine(worker, runner, time.monotonic_ns)
        self._step_s = STEP_S if self._at.path == SLOW else 0.0
        self._work = asyncio.Event()
        self._tasks = []
        self._is_dead = False

    @property
    def pid(self):
        return None

    @property
    def tokenizer(self):
        return None  # the service has one

    @property
    def parts(self) -> tuple[()]:
        return ()

    async def start(self):
        while True:
            with suppress(OSError):
                reader, writer = await asyncio.open_connection(self._at.hostname, self._at.port)
                break
            await asyncio.sleep(0.02)
        if self._at.path == REFUSED:
            writer.close()
            raise StartFailed(REFUSAL)
        self._writer = writer
        self._tasks = [
            asyncio.create_task(self._step()),
            asyncio.create_task(self._watch(reader)),
        ]
        return replace(self._engine.info, kind="fake")

    def submit(self, request):
        if self._is_dead:
            raise EngineDead("the fake engine has ended")
        self._engine.submit(request, time.monotonic_ns())
        self._work.set()

    def abort(self, request_id, attempt):
        self._engine.abort(request_id, attempt)

    def allow(self, request_id, attempt, n_bytes):
        pass

    def render(self, session_id, request_id, asked, lora):
        pass

    def inquire(self, session_id, request_id, attempt):
        self._engine.inquire(session_id, request_id, attempt)
        self._work.set()

    def end_session(self, session_id):
        self._engine.end_session(session_id)

    async def stop(self):
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._tasks:
            self._writer.close()

    async def _step(self):
        while True:
            await self._work.wait()
            self._work.clear()
            while (step := self._engine.step(time.monotonic_ns())) is not None:
                self._listener.on_step(step)
                await asyncio.sleep(self._step_s)

    async def _watch(self, reader):
        await reader.read()
        self._is_dead = True
        self._listener.on_dead(f"the fake engine ended (seen by {os.getpid()})")


class FakePort:
    """The engine, seen by the test: up or down."""

    def __init__(self):
        self._server = None
        self._writers = set()
        self.port = 0

    async def up(self):
        self._server = await asyncio.start_server(self._hold, "127.0.0.1", self.port)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def down(self):
        if self._server is None:
            return
        self._server.close()
        for writer in self._writers:
            writer.transport.abort()
        await self._server.wait_closed()
        self._server = None

    def url(self, path=""):
        return f"http://127.0.0.1:{self.port}{path}"

    async def _hold(self, reader, writer):
        self._writers.add(writer)
        with suppress(OSError):
            await reader.read()
        self._writers.discard(writer)
        writer.close()
