"""Companion: one life of one engine that is not ours, from its join to its end.

Owns the calls that run there, the follower of its events, and the watch over its life. What an
`EngineProcess` is to an engine of ours, for an engine behind a URL: requests go out, outputs come
back as steps. It never starts, stops or restarts an engine: when the engine's life is over, so is
this one, and its owner begins another.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from radixroute.events.wire.records import CacheCleared, Event
from radixroute.request.sampling import FinishReason
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.cache.believed import BelievedCache
from radixroute.worker.companions.cache.follower import EventFollower
from radixroute.worker.companions.cache.mirror import CacheMirror
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.calls import Call, Calls, ended
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.health import Vitals
from radixroute.worker.companions.http_client import EngineHttp
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.join.joining import Joining
from radixroute.worker.companions.refusals import finish_already, refusal_of
from radixroute.worker.companions.sending import Sending
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.tick import StepMeter, Tick
from radixroute.worker.companions.verbatim.rendering import Rendering
from radixroute.worker.companions.watching import Watch
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
        self._watch: Watch | None = None
        self._is_dead = False
        self._refusals: set[str] = set()
        # From the join on.
        self._joined: Joined | None = None
        self._http: EngineHttp | None = None
        self._calls = Calls(1)
        self._sending: Sending | None = None
        self._rendering: Rendering | None = None
        self._mirror: CacheMirror | None = None
        self._follower: EventFollower | None = None
        self._believed: BelievedCache | None = None  # None: the engine tells, or keeps nothing

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
            joined = self._joined = await self._joining.try_out(
                self._http, joined, self._mirror, self._follower
            )
            if joined.place is None:
                await self._unfollow()
            self._sending = Sending(joined, self._http, self._salts)
            self._rendering = Rendering(joined, self._http)
            if joined.info.is_cache_believed:
                capacity = self._settings.believed_blocks or joined.info.kv_blocks_total
                lifetime_ns = int(self._settings.believed_s * 1e9)
                self._believed = BelievedCache(joined.scope, capacity, lifetime_ns, joined.canary)
            watch = Watch(joined, self._http, self._settings, self._vitals, self)
            watch.follower = self._follower
            reason = await watch.look()  # the first numbers: what later ones are held against
            if reason:
                raise EngineDead(reason)
        except BaseException:
            await self.stop()
            raise
        self._watch = watch
        watch.start()
        return joined.info

    def submit(self, request: EngineRequest) -> None:
        """Raises `EngineDead`. A refusal comes back through the listener."""
        joined, sending = self._joined, self._sending
        if self._is_dead or joined is None or sending is None:
            raise EngineDead("the engine behind this companion has ended")
        self._calls.acknowledge(request)
        is_running = self._is_running(request)
        reason = refusal_of(request, joined.info, is_running=is_running) or joined.refuses(request)
        if reason:
            if reason not in self._refusals:
                self._refusals.add(reason)  # fixed sentences: a few, each said once
                _log.warning("engine %s: requests are refused: %s", self._joining.url, reason)
            # Not from within: who submits does not know the request yet.
            refusal = ended(request, FinishReason.INVALID, reason)
            asyncio.get_running_loop().call_soon(self._listener.on_refused, refusal)
            return
        finish = finish_already(request, joined.info.eos_token_ids)
        if finish is not None:
            self._tick.output(ended(request, finish))
            return
        self._send(request, sending)

    def abort(self, request_id: str, attempt: int) -> None:
        """Closes its connection, which is how the engine learns it."""
        call = self._calls.find(request_id, attempt)
        if call is not None:
            self._believe_end(call, time.monotonic_ns())
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
        tell = partial(self._listener.on_rendered, session_id, request_id)
        if self._rendering is None or self._is_dead:
            tell(None)
        else:
            self._rendering.begin(asked, lora, tell)

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
        if self._watch is not None:
            await self._watch.stop()
        if self._rendering is not None:
            await self._rendering.stop()
        if self._http is not None:
            self._http.close()
        await self._unfollow()

    async def _unfollow(self) -> None:
        """Its events are not believed, whosever they were."""
        follower, self._follower = self._follower, None
        if follower is not None:
            await asyncio.get_running_loop().run_in_executor(None, follower.stop)
            self.on_cache((CacheCleared(),))

    # -- CacheListener

    def on_cache(self, events: Sequence[Event]) -> None:
        if self._mirror is not None:
            self._mirror.apply(events)
        self._tick.events(events)

    def on_link_lost(self) -> None:
        self._look_soon()

    # -- calls

    def _look_soon(self) -> None:
        if self._watch is not None:
            self._watch.look_soon()

    def _is_running(self, request: EngineRequest) -> bool:
        return self._calls.find(request.request_id, request.attempt) is not None

    def _send(self, request: EngineRequest, sending: Sending) -> None:
        now_ns = time.monotonic_ns()
        if not len(self._calls):
            self._meter.busy(now_ns)
            self._vitals.moved(now_ns)
        cached = 0
        if self._mirror is not None:
            cached = self._mirror.cached_tokens(request.prompt, request.scope)
        n_uncached = request.n_tokens - cached
        call = self._calls.begin(request, uncached_tokens=n_uncached, now_ns=now_ns)
        if self._believed is not None and request.verbatim is None:
            tokens = request.prompt
            if len(request.emitted):
                tokens = np.concatenate((request.prompt, request.emitted))
            call.belief = self._believed.sent(tokens, request.scope)
        if request.verbatim is not None:
            call.exchange, call.relaying = sending.relay(request, partial(self._hear, call))
            return
        is_cut = self._follower is not None and self._follower.is_cut
        call.exchange = sending.send(request, partial(self._hear, call), tells_again=is_cut)

    def _hear(self, call: Call, heard: Heard) -> None:
        now_ns = time.monotonic_ns()
        is_first = call.first_ns is None
        if heard.is_engine_fault:
            self._look_soon()
        output = self._calls.hear(call, heard, now_ns)
        if output is None:
            return
        if heard.finish in (FinishReason.ABORT, FinishReason.ERROR) and call.exchange is not None:
            call.exchange.cancel()  # whatever it still has to say, nobody hears it
        if self._believed is not None and call.belief is not None:
            self._changed(self._believed.took(call.belief, heard, now_ns))
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

    def _believe_end(self, call: Call, now_ns: int) -> None:
        if self._believed is not None and call.belief is not None:
            self._changed(self._believed.ended(call.belief, now_ns))

    def _changed(self, events: Sequence[Event]) -> None:
        if events:
            self.on_cache(events)

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

    # -- Watched

    @property
    def has_calls(self) -> bool:
        """It has something to do: what waits for slow clients alone is none."""
        return self._calls.n_awaited > 0

    def on_well(self, *, has_moved: bool) -> None:
        """It was looked at and lives: routers hear how it does."""
        if self._believed is not None:
            self._changed(self._believed.expire(time.monotonic_ns()))
        if has_moved:
            self._tick.wake()

    def on_dead(self, reason: str) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        _log.warning("engine %s: %s", self._joining.url, reason)
        self._listener.on_dead(reason)
