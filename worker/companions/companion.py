"""Companion: one life of one engine that is not ours, from its join to its end.

Owns what is sent there, the followers of its events, and the watch over its life; what comes back
is `Hearing`'s. What an `EngineProcess` is to an engine of ours, for an engine behind a URL:
requests go out, outputs come back as steps. It never starts, stops or restarts an engine: when the
engine's life is over, so is this one, and its owner begins another.
"""

import asyncio
import logging
import time
from collections.abc import Sequence
from functools import partial

import numpy as np

from radixroute.events.wire.records import Event
from radixroute.metrics.page import Part
from radixroute.request.sampling import FinishReason
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.cache.believed import BelievedCache
from radixroute.worker.companions.cache.follower import EventFollower
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.calls import ended
from radixroute.worker.companions.health import Vitals
from radixroute.worker.companions.hearing import Hearing
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.join.joining import Joining
from radixroute.worker.companions.measures.counters import REFUSED, CompanionCounters
from radixroute.worker.companions.measures.metrics import COMPANION_METRICS, CompanionSight
from radixroute.worker.companions.measures.sight import sight_of
from radixroute.worker.companions.ranks import Ranks
from radixroute.worker.companions.refusals import finish_already, refusal_of
from radixroute.worker.companions.sending import Sending
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.verbatim.rendering import Rendering
from radixroute.worker.companions.verbatim.seating import Seating
from radixroute.worker.companions.watching import Watch
from radixroute.worker.engine.engine import (
    NOT_HERE,
    EngineInfo,
    EngineRequest,
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
        self._seating = Seating()
        self._watch: Watch | None = None
        self._is_dead = False
        self._refusals: set[str] = set()
        self._counters = CompanionCounters()
        self._hearing = Hearing(listener, self._vitals, self._counters, self._look_soon)
        # From the join on.
        self._joined: Joined | None = None
        self._http: EngineHttp | None = None
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
            ranks = self._ranks = Ranks(joined, self._salts, self)
            ranks.start()
            joined = self._joined = await self._joining.try_out(self._http, joined, ranks.caches)
            if not joined.places:
                await ranks.unfollow()
                self._hearing.forget_events()
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
        self._hearing.begin(joined, ranks)
        return joined.info

    def submit(self, request: EngineRequest) -> None:
        """Raises `EngineDead`. A refusal comes back through the listener."""
        joined, sending, ranks = self._joined, self._sending, self._ranks
        if self._is_dead or joined is None or sending is None or ranks is None:
            raise EngineDead("the engine behind this companion has ended")
        self._hearing.calls.acknowledge(request)
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
            self._hearing.output(ended(request, finish))
            return
        self._send(request, joined, sending, ranks)

    def abort(self, request_id: str, attempt: int) -> None:
        """Closes its connection, which is how the engine learns it."""
        call = self._hearing.calls.find(request_id, attempt)
        if call is not None:
            self._hearing.cancel(call)

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None:
        """Its client has taken so much of a verbatim answer."""
        call = self._hearing.calls.find(request_id, attempt)
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
        if self._hearing.calls.find(request_id, attempt) is None:
            end = FinishReason.ABORT
            said = TokenOutput(request_id, attempt, session_id, 0, (), end, NOT_HERE)
            self._hearing.output(said)

    def end_session(self, session_id: str) -> None:
        self._hearing.forget_session(session_id)

    async def stop(self) -> None:
        """Cancels what runs; the engine goes on. Idempotent."""
        self._is_dead = True
        self._hearing.end()
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
        self._hearing.events(events, rank)

    def on_link_lost(self) -> None:
        self._look_soon()

    # -- inside

    def _look_soon(self) -> None:
        if self._watch is not None:
            self._watch.look_soon()

    def _is_running(self, request: EngineRequest) -> bool:
        return self._hearing.calls.find(request.request_id, request.attempt) is not None

    def _send(self, request: EngineRequest, joined: Joined, sending: Sending, ranks: Ranks) -> None:
        hearing = self._hearing
        at, cached = ranks.choose(request, hearing.calls, self._vitals.latest)
        call = hearing.sent(request, uncached_tokens=request.n_tokens - cached, rank=at)
        hear, rank = partial(hearing.hear, call), joined.rank_of(at)
        if request.verbatim is not None:
            call.exchange, call.relaying = sending.relay(request, hear, hearing.lane, rank=rank)
            return
        believed = ranks.caches[at].believed
        if believed is not None:
            tokens = request.prompt
            if len(request.emitted):
                tokens = np.concatenate((request.prompt, request.emitted))
            call.belief = believed.sent(tokens, request.scope)
        call.exchange = sending.send(request, hear, tells_again=ranks.is_cut(at), rank=rank)

    def _sight(self) -> CompanionSight:
        return sight_of(
            self._joined, self._ranks, self._vitals, self._counters, self._hearing.calls
        )

    # -- Watched

    @property
    def busy_ranks(self) -> set[int]:
        """What waits for slow clients alone is nothing to do."""
        return self._hearing.calls.busy_ranks

    def on_well(self, *, has_moved: bool) -> None:
        """It was looked at and lives: routers hear how it does."""
        now_ns = time.monotonic_ns()
        if self._ranks is not None:
            self._ranks.expire(now_ns)
        self._counters.looked(len(self._hearing.calls), self._vitals.latest)
        has_computed = self._seating.looked(self._hearing.calls, self._vitals.latest, now_ns)
        if has_moved or has_computed:
            self._hearing.wake()

    def on_dead(self, reason: str) -> None:
        if self._is_dead:
            return
        self._is_dead = True
        self._hearing.end()
        _log.warning("engine %s: %s", self._joining.url, reason)
        self._listener.on_dead(reason)
