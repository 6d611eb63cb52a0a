"""Companion: one life of one engine that is not ours, from its join to its end.

Owns the calls that run there, the follower of its events, and the watch over its life. What an
`EngineProcess` is to an engine of ours, for an engine behind a URL: requests go out, outputs come
back as steps. It never starts, stops or restarts an engine: when the engine's life is over, so is
this one, and its owner begins another.
"""

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial

import numpy as np

from radixroute.events.wire.compat import salt_of
from radixroute.events.wire.records import Event
from radixroute.request.sampling import FinishReason
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.cache.follower import EventFollower
from radixroute.worker.companions.cache.mirror import CacheMirror
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.calls import Call, Calls, ended
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.health import DEAF, IDLE_POLL_S, LOOK_AGAIN_S, Vitals
from radixroute.worker.companions.http_client import EngineHttp
from radixroute.worker.companions.join.joining import Joined, Joining
from radixroute.worker.companions.listening import Listening
from radixroute.worker.companions.refusals import finish_already, refusal_of
from radixroute.worker.companions.relaying import Relaying
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.tick import StepMeter, Tick
from radixroute.worker.engine.engine import (
    NOT_HERE,
    EngineInfo,
    EngineRequest,
    EngineStep,
    TokenOutput,
)
from radixroute.worker.engine.host import EngineListener, HostFactory
from radixroute.worker.errors import BadSetting, EngineDead
from radixroute.worker.settings import WorkerSettings

# Between two looks, however many requests an engine refuses.
_PAUSE_S = 0.05
# For tokens of a prompt: longer than that nobody waits for a better guess.
_RENDER_S = 1.0

_log = logging.getLogger(__name__)


def companion(
    settings: CompanionSettings,
    url: str,
    worker: WorkerSettings,
    tokenizer: Tokenizer | None = None,
) -> HostFactory:
    """The `host` of a `WorkerService` with the same `worker` settings: the engine at `url`.

    `tokenizer`: else the one in the folder that settings or engine name.
    """
    if worker.events_compat:
        problem = "is not for companions: the engine sends such events itself"
        raise BadSetting("events_compat", problem)
    joining = Joining(settings, url, worker, tokenizer)
    return partial(Companion, settings, joining)


class Companion:
    """Implements `radixroute.worker.engine.host.EngineHost`."""

    def __init__(
        self, settings: CompanionSettings, joining: Joining, listener: EngineListener
    ) -> None:
        self._settings = settings
        self._joining = joining
        self._listener = listener
        self._salts = Salts()
        self._vitals = Vitals(int(settings.progress_timeout_s * 1e9))
        self._meter = StepMeter()
        self._tick = Tick(self._flush)
        self._n_steps = 0
        self._n_calls = 0
        self._name = secrets.token_hex(8)  # begins the ids of its calls
        self._look_now = asyncio.Event()
        self._watching: asyncio.Task[None] | None = None
        self._is_dead = False
        self._rendering: set[asyncio.Task[None]] = set()
        self._n_renders_refused = 0  # ways to ask for tokens that this server has not
        # From the join on.
        self._joined: Joined | None = None
        self._http: EngineHttp | None = None
        self._calls = Calls(1)
        self._mirror: CacheMirror | None = None
        self._follower: EventFollower | None = None

    @property
    def pid(self) -> int | None:
        """It is another's process."""
        return None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The engine's, once it joined."""
        return None if self._joined is None else self._joined.tokenizer

    @property
    def follower(self) -> EventFollower | None:
        """None: the engine sends no events."""
        return self._follower

    async def start(self) -> EngineInfo:
        """Waits until the engine is there, and joins it. Raises `JoinRefused` with what to do."""
        try:
            self._http = self._joining.http()
            await self._joining.await_engine(self._http)
            joined = self._joined = await self._joining.ask(self._http)
            self._calls = Calls(joined.info.block_size)
            self._mirror = CacheMirror(joined.scope)
            if joined.place is not None:
                self._follower = EventFollower(
                    joined.place,
                    joined.scope,
                    self._salts,
                    self,
                    pool_blocks=joined.info.kv_blocks_total,
                )
                self._follower.start()
            await self._joining.try_out(self._http, joined, self._mirror, self._follower)
            reason = await self._look()  # the first numbers: what later ones are held against
            if reason:
                raise EngineDead(reason)
        except BaseException:
            await self.stop()
            raise
        self._watching = asyncio.create_task(self._watch())
        return joined.info

    def submit(self, request: EngineRequest) -> None:
        """Raises `EngineDead`. A refusal comes back through the listener."""
        joined, http = self._joined, self._http
        if self._is_dead or joined is None or http is None:
            raise EngineDead("the engine behind this companion has ended")
        self._calls.acknowledge(request)
        reason = refusal_of(request, joined.info, is_running=self._is_running(request))
        if reason:
            self._listener.on_refused(ended(request, FinishReason.INVALID, reason))
            return
        finish = finish_already(request, joined.info.eos_token_ids)
        if finish is not None:
            self._tick.output(ended(request, finish))
            return
        self._send(request, joined, http)

    def abort(self, request_id: str, attempt: int) -> None:
        """Closes its connection, which is how the engine learns it."""
        call = self._calls.find(request_id, attempt)
        if call is not None:
            self._tick.output(self._calls.cancel(call))
            self._rest_if_idle()

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None:
        """Its client has taken so much of a verbatim answer."""
        call = self._calls.find(request_id, attempt)
        if call is not None and call.relaying is not None:
            if call.relaying.is_paused:
                self._vitals.moved(time.monotonic_ns())
            call.relaying.allow(n_bytes)

    def render(self, session_id: str, request_id: str, asked: Verbatim, lora: str) -> None:
        """Asks the engine, beside whatever runs there."""
        task = asyncio.create_task(self._render(session_id, request_id, asked, lora))
        self._rendering.add(task)
        task.add_done_callback(self._rendering.discard)

    async def _render(self, session_id: str, request_id: str, asked: Verbatim, lora: str) -> None:
        joined, http, tokens = self._joined, self._http, None
        if joined is not None and http is not None and not self._is_dead:
            model = lora or joined.statement.model
            asks = joined.dialect.renders(asked, model)
            for number, ask in enumerate(asks):
                if number < self._n_renders_refused:
                    continue
                answer = await http.ask(ask, _RENDER_S)
                tokens = joined.dialect.rendered(answer)
                if tokens is not None:
                    break
                if answer.status in (403, 404, 405):  # not of this server: never again
                    self._n_renders_refused = max(self._n_renders_refused, number + 1)
        self._listener.on_rendered(
            session_id, request_id, None if tokens is None else np.array(tokens, np.uint32)
        )

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None:
        """One that is not here ends once more: what it had to say is said, or was lost."""
        if self._calls.find(request_id, attempt) is None:
            end = FinishReason.ABORT
            self._tick.output(TokenOutput(request_id, attempt, session_id, 0, (), end, NOT_HERE))

    def end_session(self, session_id: str) -> None:
        self._calls.forget_session(session_id)
        self._rest_if_idle()

    async def stop(self) -> None:
        """Cancels what runs; the engine goes on. Idempotent."""
        self._is_dead = True
        if self._watching is not None:
            self._watching.cancel()
            await asyncio.gather(self._watching, return_exceptions=True)
        for task in list(self._rendering):
            task.cancel()
        if self._http is not None:
            self._http.close()
        if self._follower is not None:
            await asyncio.get_running_loop().run_in_executor(None, self._follower.stop)

    # -- CacheListener

    def on_cache(self, events: Sequence[Event]) -> None:
        if self._mirror is not None:
            self._mirror.apply(events)
        self._tick.events(events)

    def on_link_lost(self) -> None:
        self._look_now.set()

    # -- calls

    def _is_running(self, request: EngineRequest) -> bool:
        return self._calls.find(request.request_id, request.attempt) is not None

    def _send(self, request: EngineRequest, joined: Joined, http: EngineHttp) -> None:
        now_ns = time.monotonic_ns()
        if not len(self._calls):
            self._meter.busy(now_ns)
            self._vitals.moved(now_ns)
        cached = 0
        if self._mirror is not None:
            cached = self._mirror.cached_tokens(request.prompt, request.scope)
        n_uncached = request.n_tokens - cached
        call = self._calls.begin(request, uncached_tokens=n_uncached, now_ns=now_ns)
        dialect = joined.dialect
        if request.scope.salt or request.scope.tenant:
            self._salts.add(dialect.salt(request.scope), salt_of(request.scope))
        self._n_calls += 1
        model = request.scope.lora or joined.statement.model
        call_id = f"{self._name}{self._n_calls:016x}"
        if request.verbatim is not None:
            ask = dialect.verbatim(request, call_id, model)
            relaying = Relaying(dialect, partial(self._hear, call), request.allowance)
            call.relaying = relaying
            call.exchange = exchange = http.send(ask, relaying)
            relaying.bring(exchange)
            return
        is_cut = self._follower is not None and self._follower.is_cut
        ask = dialect.call(request, call_id, model, tells_again=is_cut)
        listening = Listening(dialect, partial(self._hear, call), request.sampling.logprobs)
        call.exchange = http.send(ask, listening)

    def _hear(self, call: Call, heard: Heard) -> None:
        now_ns = time.monotonic_ns()
        is_first = call.first_ns is None
        if heard.is_engine_fault:
            self._look_now.set()
        output = self._calls.hear(call, heard, now_ns)
        if output is None:
            return
        if heard.passage is not None:
            self._vitals.moved(now_ns)
            if is_first:
                self._meter.unread()
            elif heard.passage.n_tokens:
                self._meter.output(call, heard.passage.n_tokens, now_ns, is_first=False)
        if heard.token_ids:
            self._vitals.moved(now_ns)
            self._meter.output(call, len(heard.token_ids), now_ns, is_first=is_first)
        has_output = bool(heard.token_ids) or heard.passage is not None
        if is_first and not has_output and heard.finish is not FinishReason.ABORT:
            self._refused(output)
        else:
            self._tick.output(output)
        self._rest_if_idle()

    def _refused(self, output: TokenOutput) -> None:
        if output.finish in (FinishReason.STOP, FinishReason.LENGTH):
            self._tick.output(output)  # an answer of nothing
        else:
            self._listener.on_refused(output)

    def _rest_if_idle(self) -> None:
        if not len(self._calls):
            self._meter.idle()

    def _flush(self) -> None:
        """What came since the loop's last turn, as one step."""
        if self._is_dead or self._joined is None:
            return
        outputs, events = self._tick.take()
        step_ms, prefill_tokens, decode_tokens = self._meter.take()
        self._n_steps += 1
        self._listener.on_step(
            EngineStep(
                step=self._n_steps,
                outputs=outputs,
                events=events,
                step_ms=step_ms,
                prefill_tokens=prefill_tokens,
                decode_tokens=decode_tokens,
                kv_blocks_used=self._blocks_used(),
                sessions=self._calls.progress(),
            )
        )

    def _blocks_used(self) -> int:
        """Its own number counts pinned blocks alone."""
        total = 0 if self._joined is None else self._joined.info.kv_blocks_total
        pinned = round(self._vitals.latest.kv_usage * total)
        held = 0 if self._mirror is None else self._mirror.n_blocks
        return max(pinned, min(held, total) if total else held)

    # -- life

    async def _watch(self) -> None:
        while not self._is_dead:
            delay_s = self._settings.poll_s if len(self._calls) else IDLE_POLL_S
            if self._vitals.failed:
                delay_s = min(delay_s, LOOK_AGAIN_S)
            with suppress(TimeoutError):
                async with asyncio.timeout(delay_s):
                    await self._look_now.wait()
            self._look_now.clear()
            reason = await self._look()
            if reason:
                self._die(reason)
            await asyncio.sleep(_PAUSE_S)

    async def _look(self) -> str:
        """Why it is dead; empty: it lives. Then routers hear how it does."""
        joined, http = self._joined, self._http
        if joined is None or http is None:
            return ""
        if self._follower is not None and not self._follower.is_alive:
            return DEAF
        reason = self._vitals.looked(await http.ask(joined.dialect.health()))
        if reason or self._vitals.failed:
            return reason
        page = await http.ask(joined.dialect.metrics())
        if not page.is_ok:
            return ""
        numbers = joined.dialect.numbers(page.body)
        now_ns = time.monotonic_ns()
        reason = self._vitals.counted(numbers, now_ns, has_calls=self._calls.n_awaited > 0)
        if not reason and self._vitals.moved_ns == now_ns:
            self._tick.wake()
        return reason

    def _die(self, reason: str) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        _log.warning("engine %s: %s", self._joining.url, reason)
        self._listener.on_dead(reason)
