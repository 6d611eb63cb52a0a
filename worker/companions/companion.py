"""Companion: one life of one engine that is not ours, from its join to its end.

Owns the calls that run there, the follower of its events, and the watch over its life: what an
`EngineProcess` is to an engine of ours. Requests go out, outputs come back as steps. It never
starts, stops or restarts an engine: when that one's life is over, its owner begins another.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial
from typing import Final

import numpy as np

from radixroute.events.wire.records import Event
from radixroute.metrics.page import Part
from radixroute.request.sampling import FinishReason
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.cache.believed import BelievedCache
from radixroute.worker.companions.cache.follower import EventFollower
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.calls import Call, Calls, ended
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.health import Vitals
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.join.joining import Joining
from radixroute.worker.companions.measures.counters import CANCELLED, REFUSED, CompanionCounters
from radixroute.worker.companions.measures.metrics import COMPANION_METRICS, CompanionSight
from radixroute.worker.companions.measures.sight import sight_of
from radixroute.worker.companions.ranks import Ranks
from radixroute.worker.companions.refusals import finish_already, refusal_of
from radixroute.worker.companions.sending import Sending
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.tick import StepMeter, Tick
from radixroute.worker.companions.verbatim.lane import Lane
from radixroute.worker.companions.verbatim.rendering import Rendering
from radixroute.worker.companions.verbatim.seating import Seating
from radixroute.worker.companions.watching import Watch
from radixroute.worker.engine.engine import (
    NOT_HERE,
    EngineInfo,
    EngineRequest,
    EngineStep,
    MoreOutput,
    TokenOutput,
)
from radixroute.worker.engine.host import EngineListener, HostFactory
from radixroute.worker.errors import BadSetting, EngineDead
from radixroute.worker.settings import WorkerSettings

_log = logging.getLogger(__name__)
# What ends an answer without a token that is no refusal.
_ENDS_OF_NOTHING: Final = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT)


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
        self._meter = StepMeter(1)
        self._tick = Tick(self._flush, lambda: len(self._calls))
        self._lane = Lane(self._tick.wake)
        self._seating = Seating()
        self._n_steps = 0
        self._watch: Watch | None = None
        self._is_dead = False
        self._refusals: set[str] = set()
        self._counters = CompanionCounters()
        # From the join on.
        self._joined: Joined | None = None
        self._http: EngineHttp | None = None
        self._calls = Calls(1)
        self._sending: Sending | None = None
        self._rendering: Rendering | None = None
        self._ranks: Ranks | None = None

    @property
    def pid(self) -> int | None:
        """It is another's process."""
        return None

    @property
    def tokenizer(self) -> Tokenizer | None:
        """The engine's, once it joined."""
        return None if self._joined is None else self._joined.tokenizer

    @property
    def followers(self) -> list[EventFollower]:
        """None: the engine sends no events."""
        return [] if self._ranks is None else self._ranks.followers

    @property
    def parts(self) -> tuple[Part[CompanionSight]]:
        return (Part(COMPANION_METRICS, self._sight),)

    async def start(self) -> EngineInfo:
        """Waits until the engine is there, and joins it. Raises `JoinRefused` with what to do."""
        try:
            self._http = self._joining.http()
            await self._joining.await_engine(self._http)
            joined = self._joined = await self._joining.ask(self._http)
            self._calls = Calls(joined.info.block_size)
            self._meter = StepMeter(joined.info.block_size)
            ranks = self._ranks = Ranks(joined, self._salts, self)
            ranks.start()
            joined = self._joined = await self._joining.try_out(self._http, joined, ranks.caches)
            if not joined.places:
                await ranks.unfollow()
                self._tick.take()  # nobody has heard of it
                ranks = self._ranks = Ranks(joined, self._salts, self)
            self._sending = Sending(joined, self._http, self._salts)
            self._rendering = Rendering(joined, self._http)
            if joined.info.is_cache_believed:
                pool = joined.info.kv_blocks_total // len(ranks)
                capacity = self._settings.believed_blocks or pool
                lifetime_ns = int(self._settings.believed_s * 1e9)
                make = partial(BelievedCache, joined.scope, capacity, lifetime_ns, joined.canary)
                ranks.believe(make)
            watch = Watch(joined, self._http, self._settings, self._vitals, self)
            watch.followed = ranks
            reason = await watch.look()  # the first numbers: what later ones are held against
            if reason:
                raise EngineDead(reason)
        except BaseException:
            await self.stop()
            raise
        self._watch = watch
        watch.start()
        self._tick.wake()  # what was told of the caches until now
        return joined.info

    def submit(self, request: EngineRequest) -> None:
        """Raises `EngineDead`. A refusal comes back through the listener."""
        joined, sending, ranks = self._joined, self._sending, self._ranks
        if self._is_dead or joined is None or sending is None or ranks is None:
            raise EngineDead("the engine behind this companion has ended")
        self._calls.acknowledge(request)
        is_running = self._is_running(request)
        reason = refusal_of(request, joined.info, is_running=is_running) or joined.refuses(request)
        if reason:
            if reason not in self._refusals:
                self._refusals.add(reason)  # fixed sentences: a few, each said once
                _log.warning("engine %s: requests are refused: %s", self._joining.url, reason)
            self._counters.ended(REFUSED)
            # Not from within: who submits does not know the request yet.
            refusal = ended(request, FinishReason.INVALID, reason)
            asyncio.get_running_loop().call_soon(self._listener.on_refused, refusal)
            return
        finish = finish_already(request, joined.info.eos_token_ids)
        if finish is not None:
            self._tick.output(ended(request, finish))
            return
        self._send(request, joined, sending, ranks)

    def abort(self, request_id: str, attempt: int) -> None:
        """Closes its connection, which is how the engine learns it."""
        call = self._calls.find(request_id, attempt)
        if call is not None:
            self._believe(call, None, time.monotonic_ns())
            self._tick.output(self._calls.cancel(call))
            self._counters.ended(CANCELLED)
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
        before = len(self._calls)
        self._calls.forget_session(session_id)
        self._counters.ends[CANCELLED] += before - len(self._calls)
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
        if self._ranks is not None:
            await self._ranks.unfollow()

    # -- RanksListener

    def on_cache(self, events: Sequence[Event], rank: int) -> None:
        self._counters.events += len(events)
        self._tick.events(events, rank)

    def on_link_lost(self) -> None:
        self._look_soon()

    # -- calls

    def _look_soon(self) -> None:
        if self._watch is not None:
            self._watch.look_soon()

    def _is_running(self, request: EngineRequest) -> bool:
        return self._calls.find(request.request_id, request.attempt) is not None

    def _send(self, request: EngineRequest, joined: Joined, sending: Sending, ranks: Ranks) -> None:
        now_ns = time.monotonic_ns()
        if not len(self._calls):
            self._meter.busy(now_ns)
            self._vitals.moved(now_ns)
        at, cached = ranks.choose(request, self._calls, self._vitals.latest)
        n_uncached = request.n_tokens - cached
        call = self._calls.begin(request, uncached_tokens=n_uncached, now_ns=now_ns, rank=at)
        hear, rank = partial(self._hear, call), joined.rank_of(at)
        if request.verbatim is not None:
            call.exchange, call.relaying = sending.relay(request, hear, self._lane, rank=rank)
            return
        believed = ranks.caches[at].believed
        if believed is not None:
            tokens = request.prompt
            if len(request.emitted):
                tokens = np.concatenate((request.prompt, request.emitted))
            call.belief = believed.sent(tokens, request.scope)
        call.exchange = sending.send(request, hear, tells_again=ranks.is_cut(at), rank=rank)

    def _hear(self, call: Call, heard: Heard) -> None:
        """There is one a token: what is not of each is `_hear_more`'s."""
        now_ns = time.monotonic_ns()
        is_first = call.first_ns is None
        output = self._calls.hear(call, heard, now_ns)
        if output is not None:
            self._counters.heard(heard)
            if call.belief is not None:
                self._believe(call, heard, now_ns)
            if heard.token_ids:
                self._vitals.moved_ns = now_ns
                self._meter.output(call, len(heard.token_ids), now_ns, is_first=is_first)
                if heard.finish is None:
                    self._tick.output(output)
                    return
        self._hear_more(call, heard, output, is_first=is_first)

    def _hear_more(
        self, call: Call, heard: Heard, output: TokenOutput | None, *, is_first: bool
    ) -> None:
        """An end, or bytes of a verbatim answer; nobody may wait for it any more."""
        if heard.is_engine_fault:
            self._look_soon()
        if output is None:
            return
        if heard.finish in (FinishReason.ABORT, FinishReason.ERROR) and call.exchange is not None:
            call.exchange.cancel()  # whatever it still has to say, nobody hears it
        passage = heard.passage
        if passage is not None:
            now_ns = time.monotonic_ns()
            self._vitals.moved(now_ns)
            if is_first:
                self._meter.unread()
            elif passage.n_tokens:
                self._meter.output(call, passage.n_tokens, now_ns, is_first=False)
        is_empty = is_first and not heard.token_ids and passage is None
        if is_empty and output.finish not in _ENDS_OF_NOTHING:
            self._listener.on_refused(output)
        else:
            self._tick.output(output)
        self._rest_if_idle()

    def _believe(self, call: Call, heard: Heard | None, now_ns: int) -> None:
        """None: nothing more is heard of it."""
        believed = None if self._ranks is None else self._ranks.caches[call.rank].believed
        if self._ranks is None or believed is None or call.belief is None:
            return
        if heard is None:
            events: Sequence[Event] = believed.ended(call.belief, now_ns)
        else:
            events = believed.took(call.belief, heard, now_ns)
        if events:
            self._ranks.changed(events, call.rank)

    def _rest_if_idle(self) -> None:
        if not len(self._calls):
            self._meter.idle()

    def _flush(self) -> None:
        """What came since the loop's last turn, as one step."""
        if self._is_dead or self._watch is None:
            return  # until it has joined nobody knows its ranks
        now_ns = time.monotonic_ns()
        outputs, events = self._tick.take()
        more = self._lane.take(self._calls, self._meter, now_ns)
        if more:
            self._vitals.moved(now_ns)
        # Events first: whoever sees a first token should find its blocks soon after.
        *others, last = sorted(events) or (0,)
        for rank in others:
            self._say(events[rank], rank)
        self._say(events.get(last, ()), last, outputs, self._meter.take(), more)

    def _say(
        self,
        events: tuple[Event, ...],
        rank: int,
        outputs: tuple[TokenOutput, ...] = (),
        timed: tuple[float, int, int] = (0.0, 0, 0),
        more: tuple[MoreOutput, ...] = (),
    ) -> None:
        step_ms, prefill_tokens, decode_tokens = timed
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
                rank=rank,
                more=more,
            )
        )

    def _blocks_used(self) -> int:
        if self._joined is None or self._ranks is None:
            return 0
        total = self._joined.info.kv_blocks_total
        return self._ranks.blocks_used(total, round(self._vitals.latest.kv_usage * total))

    def _sight(self) -> CompanionSight:
        return sight_of(self._joined, self._ranks, self._vitals, self._counters, self._calls)

    # -- Watched

    @property
    def busy_ranks(self) -> set[int]:
        """What waits for slow clients alone is nothing to do."""
        return self._calls.busy_ranks

    def on_well(self, *, has_moved: bool) -> None:
        """It was looked at and lives: routers hear how it does."""
        now_ns = time.monotonic_ns()
        if self._ranks is not None:
            self._ranks.expire(now_ns)
        self._counters.looked(len(self._calls), self._vitals.latest)
        has_computed = self._seating.looked(self._calls, self._vitals.latest, now_ns)
        if has_moved or has_computed:
            self._tick.wake()

    def on_dead(self, reason: str) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        _log.warning("engine %s: %s", self._joining.url, reason)
        self._listener.on_dead(reason)
