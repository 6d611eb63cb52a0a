"""Worker service: one worker, whole; engine process, event publisher and gRPC server.

Starts and stops them together and routes between them: outputs to worker sessions, cache events and
load to the publisher. Decides nothing and restarts nothing; its owner learns from `wait_failed`
that the engine is gone. On one event loop. Called by `deploy`'s worker actor, tests and benchmarks.
"""

import asyncio
import logging
import secrets
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from radixroute.events.net.gate import EventGate
from radixroute.events.publish.compat_publisher import CompatPublisher
from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.epoch import NONCE_BYTES, make_epoch
from radixroute.events.wire.records import Epoch, LoadReport
from radixroute.radix.ids import Tokens
from radixroute.request.limits import Limits
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.trust.errors import BadPem
from radixroute.trust.identity import Identity
from radixroute.trust.pem_files import PemFiles
from radixroute.worker.api.describe import Places, describe
from radixroute.worker.api.frames.frame_server import FrameServer
from radixroute.worker.api.intake import Intake
from radixroute.worker.api.metrics import WorkerSight
from radixroute.worker.api.page import WorkerPage
from radixroute.worker.api.server import EngineServer, WorkerServer, require_safe_host
from radixroute.worker.api.worker_sessions import WorkerSessions
from radixroute.worker.engine.engine import (
    EngineInfo,
    EngineRequest,
    EngineStep,
    TokenOutput,
    WorkerSessionProgress,
)
from radixroute.worker.engine.host import EngineHost, HostFactory
from radixroute.worker.errors import BadSetting, NotStarted
from radixroute.worker.model.folder import model_folder
from radixroute.worker.process.engine_process import TORCH_RUNNER, EngineProcess
from radixroute.worker.settings import WorkerSettings

_log = logging.getLogger(__name__)

_DRAIN_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class WorkerAddress:
    """Where the worker's gRPC server listens."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class WorkerService:
    """`start` once, then `wait_failed`, then `stop`."""

    def __init__(
        self,
        settings: WorkerSettings,
        *,
        runner: str = TORCH_RUNNER,
        host: HostFactory | None = None,
        tokenizer: Tokenizer | None = None,
    ) -> None:
        """`runner` computes in an engine process of ours (tests bring a fake); `host` is another
        engine instead. `tokenizer`: else the one in the model's folder."""
        require_safe_host(settings)
        self._settings = settings
        self._identity = _identity(settings)
        identity = self._identity
        self._gate = None if identity is None else EventGate(identity.event_keys)
        self._tokenizer = tokenizer
        self._is_ours = host is None
        self._engine: EngineHost = (
            EngineProcess(settings, self, runner) if host is None else host(self)
        )
        self._epoch: Epoch = make_epoch(settings.incarnation, secrets.token_bytes(NONCE_BYTES))
        self._info: EngineInfo | None = None
        self._sessions: WorkerSessions | None = None
        self._publisher: EventPublisher | None = None
        self._compat: CompatPublisher | None = None  # None: not asked for
        self._engine_server: EngineServer | None = None
        self._server: WorkerServer | None = None
        self._frame_server: FrameServer | None = None
        self._address: WorkerAddress | None = None
        self._page = WorkerPage(settings, lambda: not self.in_flight)
        self._failure: asyncio.Future[str] | None = None
        self._n_blocks_used = 0
        self._is_idle = True
        self._dying: asyncio.Task[None] | None = None  # keeps the last words alive

    @property
    def epoch(self) -> Epoch:
        return self._epoch

    @property
    def address(self) -> WorkerAddress:
        """Known once started."""
        if self._address is None:
            raise NotStarted("the worker was not started")
        return self._address

    @property
    def info(self) -> EngineInfo | None:
        """What its engine says of itself; None: not started."""
        return self._info

    @property
    def metrics_address(self) -> str:
        """host:port of GET /metrics; empty: no page, or not started."""
        return self._page.address

    @property
    def unread_sessions(self) -> int:
        """Worker sessions closed because their caller read nothing for too long."""
        return 0 if self._sessions is None else self._sessions.unread

    @property
    def unproven(self) -> int:
        """Connections for sessions and events that did not prove themselves, where that is asked
        for."""
        sessions = 0 if self._frame_server is None else self._frame_server.unproven
        return sessions + (0 if self._gate is None else self._gate.refused)

    @property
    def engine_pid(self) -> int | None:
        return self._engine.pid

    @property
    def in_flight(self) -> int:
        """Requests that callers wait for."""
        return 0 if self._sessions is None else self._sessions.in_flight

    @property
    def kv_blocks_used(self) -> int:
        """Blocks pinned or cached after the last step."""
        return self._n_blocks_used

    async def start(self) -> WorkerAddress:
        """Load the model and listen. Raises `FixConfig` with what to do; nothing runs then."""
        self._failure = asyncio.get_running_loop().create_future()
        try:
            port = await self._start()
        except BaseException:
            await self.stop()
            raise
        self._address = WorkerAddress(self._settings.host, port)
        return self._address

    async def wait_failed(self) -> str:
        """Why the engine ended; waits until it does."""
        if self._failure is None:
            raise NotStarted("the worker was not started")
        return await asyncio.shield(self._failure)

    async def stop(self, drain_s: float = 0.0) -> None:
        """End everything, whatever had been started; requests that run get `drain_s` to end whole.
        Idempotent."""
        if drain_s and self._server is not None:
            await self._server.report_ending()
            give_up_s = time.monotonic() + drain_s
            while self.in_flight and time.monotonic() < give_up_s:  # noqa: ASYNC110
                await asyncio.sleep(_DRAIN_POLL_S)
        await self._page.stop()
        if self._sessions is not None:
            self._sessions.close_all()
        if self._frame_server is not None:
            await self._frame_server.stop()
        if self._server is not None:
            await self._server.stop()
        await self._engine.stop()
        for publisher in (self._publisher, self._compat):
            if publisher is not None:
                await asyncio.get_running_loop().run_in_executor(None, publisher.stop)

    # -- EngineCommands: what worker sessions ask of the engine ------------------------------------

    def submit(self, request: EngineRequest) -> None:
        self._engine.submit(request)
        if self._is_idle:
            # Until its first step ends an engine says nothing: from here on silence has an age.
            self._is_idle = False
            first = WorkerSessionProgress(request.session_id, 0, 1, request.n_tokens, 0)
            self._report_load((first,))

    def abort(self, request_id: str, attempt: int) -> None:
        self._engine.abort(request_id, attempt)

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None:
        self._engine.allow(request_id, attempt, n_bytes)

    def render(self, session_id: str, request_id: str, asked: Verbatim, lora: str) -> None:
        self._engine.render(session_id, request_id, asked, lora)

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None:
        self._engine.inquire(session_id, request_id, attempt)

    def end_session(self, session_id: str) -> None:
        self._engine.end_session(session_id)
        # An idle engine has no step to say it with: a lease would be held until the next one.
        if self._publisher is not None and self._sessions is not None:
            self._publisher.report_direct(self._sessions.direct, self._sessions.direct_ended)

    # -- EngineListener: what the engine says ------------------------------------------------------

    def on_step(self, step: EngineStep) -> None:
        # Events first: a router that sees the first token should find the blocks soon after.
        if self._publisher is not None:
            self._publisher.publish(step.events, step.rank)
        if self._compat is not None:
            self._compat.publish(step.events)
        self._n_blocks_used = step.kv_blocks_used
        self._page.meter.step(step)
        self._is_idle = not any(progress.in_flight for progress in step.sessions)
        if self._sessions is not None:
            self._sessions.deliver(step)
        self._report_load(step.sessions)

    def on_refused(self, output: TokenOutput) -> None:
        self._page.meter.refuse()
        if self._sessions is not None:
            self._sessions.deliver_refusal(output)
        if not self._is_idle and not self.in_flight:
            # No step will say so: heartbeats would have it run, and the engine stand still.
            self._is_idle = True
            self._report_load(())

    def on_rendered(self, session_id: str, request_id: str, tokens: Tokens | None) -> None:
        if self._sessions is not None:
            self._sessions.deliver_rendered(session_id, request_id, tokens)

    def on_dead(self, reason: str) -> None:
        _log.error("worker %s: engine dead: %s", self._settings.worker_id, reason)
        if self._sessions is not None:
            self._sessions.close_all()
        if self._failure is not None and not self._failure.done():
            self._failure.set_result(reason)
        if self._server is not None:
            self._dying = asyncio.create_task(self._server.report_ending())

    async def _start(self) -> int:
        loop = asyncio.get_running_loop()
        if self._is_ours and self._tokenizer is None:
            self._tokenizer = await loop.run_in_executor(None, _load_tokenizer, self._settings)
        # Before the engine: one that runs already tells of its cache while it joins.
        self._publisher = EventPublisher(
            self._epoch, settings=_publisher_settings(self._settings), gate=self._gate
        )
        await loop.run_in_executor(None, self._publisher.start)
        self._info = await self._engine.start()
        self._publisher.add_ranks(self._info.ranks)
        self._tokenizer = tokenizer = await self._its_tokenizer()
        if self._settings.events_compat:
            self._compat = CompatPublisher(
                self._info.block_size, settings=_publisher_settings(self._settings)
            )
            await loop.run_in_executor(None, self._compat.start)
        self._report_load(())
        self._sessions = WorkerSessions(tokenizer, self)
        look = partial(self._sight, self._info, self._sessions, self._publisher)
        await self._page.start(look, self._engine.parts)
        intakes = partial(
            Intake,
            Limits(self._info.max_model_len, self._info.vocab_size),
            max_verbatim_bytes=(
                self._settings.max_message_bytes if self._info.takes_verbatim else 0
            ),
        )
        self._frame_server = FrameServer(self._sessions, intakes, self._settings, self._identity)
        places = Places(
            await self._frame_server.start(),
            self._publisher.endpoints,
            None if self._compat is None else self._compat.endpoints,
            self._page.address,
        )
        message = describe(self._settings, self._info, tokenizer, self._epoch, places)
        self._engine_server = EngineServer(
            self._sessions, message, intakes, self._settings.unread_timeout_s, self._gate
        )
        self._server = WorkerServer(self._settings, self._engine_server, self._identity)
        return await self._server.start()

    async def _its_tokenizer(self) -> Tokenizer:
        tokenizer = self._tokenizer or self._engine.tokenizer
        if tokenizer is not None:
            return tokenizer
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(None, _load_tokenizer, self._settings)

    def _sight(
        self, info: EngineInfo, sessions: WorkerSessions, publisher: EventPublisher
    ) -> WorkerSight:
        meter = self._page.meter
        return WorkerSight(
            worker_id=self._settings.worker_id,
            info=info,
            steps=meter.step_s.spread,
            prefill_tokens=meter.prefill_tokens,
            decode_tokens=meter.decode_tokens,
            queued_tokens=meter.queued_tokens,
            kv_blocks_used=self._n_blocks_used,
            in_flight=sessions.in_flight,
            sessions=len(sessions),
            refused=meter.refused,
            told_over=sessions.told_over,
            unread_sessions=self.unread_sessions,
            unproven=self.unproven,
            batches=replace(publisher.stream_counters),
            publisher=replace(publisher.counters),
            loop_lag=self._page.lag.spread,
        )

    def _report_load(self, progress: tuple[WorkerSessionProgress, ...]) -> None:
        if self._publisher is None or self._info is None:
            return
        total, used = self._info.kv_blocks_total, self._n_blocks_used
        sessions = self._sessions
        if sessions is None:
            report = LoadReport(0.0, total, used)
        else:
            load = sessions.load(progress)
            report = LoadReport(0.0, total, used, load, sessions.direct, sessions.direct_ended)
        self._publisher.report_load(report)


def _identity(settings: WorkerSettings) -> Identity | None:
    """None: whoever reaches the worker may ask it. Raises BadSetting."""
    if not settings.tls_cert_file:
        return None
    files = PemFiles(settings.tls_cert_file, settings.tls_key_file, settings.tls_ca_file)
    try:
        return Identity(files)
    except BadPem as error:
        raise BadSetting(error.name, error.problem) from None


def _publisher_settings(settings: WorkerSettings) -> PublisherSettings:
    return PublisherSettings(host=settings.host, insecure_bind=settings.insecure_bind)


def _load_tokenizer(settings: WorkerSettings) -> Tokenizer:
    if not settings.model:
        raise BadSetting("model", "is not set; give a Hugging Face directory or a .gguf file")
    # Converts a GGUF file the first time; the engine process finds the same folder.
    return Tokenizer.from_dir(model_folder(Path(settings.model)))
