"""Engine process, seen from the server: starts it, talks to it, notices its end at once.

Owns the child process (`child`) and the socket pair to it. Messages go out without waiting; what
comes back goes to one `EngineListener`, in order, on the event loop. Never restarts anything: its
owner decides. Called by `WorkerService`.
"""

import asyncio
import logging
import os
import socket
import subprocess
import sys
import time

from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.engine.engine import EngineInfo, EngineRequest
from radixroute.worker.engine.host import EngineListener
from radixroute.worker.errors import EngineDead, MalformedMessage, StartFailed
from radixroute.worker.process.messages import (
    Abort,
    EndWorkerSession,
    Failed,
    Inquire,
    Message,
    Ready,
    Refused,
    Start,
    Stepped,
    Submit,
    decode_message,
    encode_message,
)
from radixroute.worker.process.pipe import HEADER, MAX_MESSAGE_BYTES
from radixroute.worker.settings import WorkerSettings

TORCH_RUNNER = "radixroute.worker.model.torch_runner:load_runner"
# Enough for a few dozen steps: a server that is busy for a moment does not stop the engine.
_SOCKET_BUFFER_BYTES = 4 * 1024 * 1024
_STOP_TIMEOUT_S = 5.0

_log = logging.getLogger(__name__)


class EngineProcess:
    """Implements `radixroute.worker.engine.host.EngineHost` for an engine of ours."""

    def __init__(
        self, settings: WorkerSettings, listener: EngineListener, runner: str = TORCH_RUNNER
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._runner = runner
        self._child: subprocess.Popen[bytes] | None = None
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._listening: asyncio.Task[None] | None = None
        self._is_stopping = False

    @property
    def pid(self) -> int | None:
        return None if self._child is None else self._child.pid

    @property
    def tokenizer(self) -> None:
        """That of the model's folder."""
        return None

    @property
    def parts(self) -> tuple[()]:
        """The worker's own table says all of it."""
        return ()

    @property
    def is_alive(self) -> bool:
        return self._listening is not None and not self._listening.done()

    async def start(self) -> EngineInfo:
        """Load the model; raises `StartFailed` with what to do. The process is gone then."""
        own_end, child_end = socket.socketpair()
        for end in (own_end, child_end):
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SOCKET_BUFFER_BYTES)
        with child_end:
            self._child = self._spawn(child_end)
        self._reader, self._writer = await asyncio.open_unix_connection(sock=own_end)
        try:
            self._send(Start(self._settings))
            first = await self._receive(self._reader)
        except BaseException:
            await self.stop()
            raise
        if isinstance(first, Ready):
            self._listening = asyncio.create_task(self._listen(self._reader))
            return first.info
        await self.stop()
        reason = first.reason if isinstance(first, Failed) else self._how_it_ended()
        raise StartFailed(reason)

    def submit(self, request: EngineRequest) -> None:
        """Raises `EngineDead`. A refusal comes back through the listener."""
        if not self.is_alive:
            raise EngineDead("the engine process has ended")
        self._send(Submit(request, time.monotonic_ns()))

    def abort(self, request_id: str, attempt: int) -> None:
        self._send(Abort(request_id, attempt))

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None:
        """Engines of ours take no verbatim requests."""

    def render(self, session_id: str, request_id: str, asked: Verbatim, lora: str) -> None:
        """The same: it does not tell."""
        self._listener.on_rendered(session_id, request_id, None)

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None:
        """If it does not run there, it ends once more, in order with what else comes."""
        self._send(Inquire(session_id, request_id, attempt))

    def end_session(self, session_id: str) -> None:
        self._send(EndWorkerSession(session_id))

    async def stop(self) -> None:
        """Close the pipe, which ends the process; kill it when that takes too long. Idempotent."""
        self._is_stopping = True
        if self._writer is not None:
            self._writer.close()
        if self._listening is not None:
            self._listening.cancel()
            await asyncio.gather(self._listening, return_exceptions=True)
        if self._child is not None:
            await asyncio.get_running_loop().run_in_executor(None, _reap, self._child)

    def _spawn(self, child_end: socket.socket) -> subprocess.Popen[bytes]:
        threads = str(self._settings.torch_threads)
        command = [sys.executable, "-m", "radixroute.worker.process.child"]
        command += ["--fd", str(child_end.fileno()), "--parent", str(os.getpid())]
        command += ["--runner", self._runner]
        # OpenMP reads its thread count when torch is loaded, before any setting can reach it.
        environment = {**os.environ, "OMP_NUM_THREADS": threads, "MKL_NUM_THREADS": threads}
        return subprocess.Popen(  # noqa: S603  # our own interpreter and module
            command, pass_fds=(child_end.fileno(),), stdin=subprocess.DEVNULL, env=environment
        )

    def _send(self, message: Message) -> None:
        # Nobody is left to hear it once the pipe is closed; the listener knows.
        if self._writer is None or self._writer.is_closing():
            return
        data = encode_message(message)
        self._writer.write(HEADER.pack(len(data)) + data)

    async def _receive(self, reader: asyncio.StreamReader) -> Message | None:
        """The next message; None when the process has ended."""
        try:
            (size,) = HEADER.unpack(await reader.readexactly(HEADER.size))
            if size > MAX_MESSAGE_BYTES:
                raise MalformedMessage(f"a message announces {size} bytes")
            return decode_message(await reader.readexactly(size))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    async def _listen(self, reader: asyncio.StreamReader) -> None:
        try:
            reason = await self._relay(reader)
        except MalformedMessage as error:
            reason = str(error)
        except Exception:  # noqa: BLE001  # our bug: an engine that nobody hears must not go on
            _log.exception("the engine's listener failed")
            reason = "the worker could not take a step of its engine"
        if self._writer is not None:
            self._writer.close()
        if not self._is_stopping:
            await asyncio.get_running_loop().run_in_executor(None, self._await_exit)
            self._listener.on_dead(reason or self._how_it_ended())

    async def _relay(self, reader: asyncio.StreamReader) -> str | None:
        """Pass on what comes until the process ends; its last words, if it had any."""
        reason: str | None = None
        while (message := await self._receive(reader)) is not None:
            match message:
                case Stepped(step):
                    self._listener.on_step(step)
                case Refused(output):
                    self._listener.on_refused(output)
                case Failed(last_words):
                    reason = last_words
                case _:
                    raise MalformedMessage(f"{type(message).__name__} is not for the server")
        return reason

    def _await_exit(self) -> None:
        if self._child is not None:
            _reap(self._child)

    def _how_it_ended(self) -> str:
        code = None if self._child is None else self._child.returncode
        if code is not None and code < 0:
            return f"the engine process was killed by signal {-code}"
        return f"the engine process ended with exit code {code}; its log says more"


def _reap(child: subprocess.Popen[bytes]) -> None:
    try:
        child.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        _log.warning("engine process %d does not end: killing it", child.pid)
        child.kill()
        child.wait()
