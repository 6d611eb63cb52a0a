"""Shadows of one router: policies that are asked what the live one is, and never act.

Owns the fleet that they are thought to have, and begins them anew, with empty caches, when that is
another one: the live policy's own shadow is among them and shows what the method is worth. Reads
the router's tape in its loop; the simulations run in a process of their own (`process`).
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
import numpy as np

from radixroute.insight.shadow.collector import Collected, Collector
from radixroute.insight.shadow.comparison import Comparison, ShadowFigures
from radixroute.insight.shadow.messages import (
    Begin,
    Result,
    Results,
    ShadowState,
    ShadowTiming,
    ShadowWorker,
)
from radixroute.insight.shadow.process import ShadowProcess
from radixroute.metrics.page import Part
from radixroute.radix.ids import BlockKey, Keys, WorkerId
from radixroute.radix.keys.block_keys import extend_keys
from radixroute.router.core.logs.tape import Record, WorkerJoined
from radixroute.router.messages.inputs import RequestSpec, WorkerFacts
from radixroute.router.observer import Observed

SETTLE_NS: Final = 2_000_000_000  # after a worker of another fleet joined: more may come
SEND_NS: Final = 1_000_000_000  # between two batches
TIMINGS_NS: Final = 5_000_000_000
# Where a worker does not say.
USUAL_SEQS, USUAL_BATCHED = 256, 8192
MAX_REMEMBERED: Final = 4096  # requests whose shadows' decisions can be asked for

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WouldHave:
    """What one shadow did with one request."""

    policy: str
    worker_id: WorkerId
    ttft_ms: float
    cached_tokens: int


@dataclass(frozen=True, slots=True)
class ShadowsSeen:
    """All shadows at one moment."""

    live_policy: str
    figures: tuple[ShadowFigures, ...]  # reality first; none before the fleet is there
    states: tuple[ShadowState, ...]  # of `figures` but the first
    counts: Collected
    behind_s: float  # of the live router
    restarts: int  # times they began anew because the fleet was another one, or they were lost
    batches_lost: int  # that the process was too slow for


class Shadows:
    """Implements `Reader`."""

    def __init__(
        self, observed: Observed, policies: Sequence[str], *, lag_ns: int, window_ns: int
    ) -> None:
        """`policies`: beside the live one's own shadow."""
        live = observed.settings.policy
        self._observed = observed
        self._policies = (live, *dict.fromkeys(name for name in policies if name != live))
        self._lag_ns, self._window_ns = lag_ns, window_ns
        self._facts: dict[WorkerId, WorkerFacts] = {}
        self._process: ShadowProcess | None = None
        self._starting: asyncio.Task[None] | None = None
        self._begin_ns: int | None = None  # when to begin, if that is settled
        self._collector: Collector | None = None
        self._comparison = Comparison(self._policies, window_ns)
        self._workers: tuple[WorkerId, ...] = ()
        self._states: tuple[ShadowState, ...] = ()
        self._known_ns = self._sent_ns = self._timed_ns = 0
        self._began_ns = 0
        self._ids: OrderedDict[int, str] = OrderedDict()  # of requests, by tag
        self._failed: set[int] = set()  # policies
        self._told: OrderedDict[str, dict[int, Result]] = OrderedDict()
        self._now_ns = 0
        self._restarts = -1
        self._batches_lost = 0

    @property
    def parts(self) -> Sequence[Part[Any]]:
        from radixroute.insight.shadow.metrics import SHADOW_METRICS

        return (Part(SHADOW_METRICS, self.seen),)

    def read(self, records: Sequence[Record], now_ns: int) -> None:
        self._now_ns = now_ns
        for record in records:
            if isinstance(record, WorkerJoined):
                self._joined(record)
            if self._collector is not None:
                self._collector.read(record)
        if self._begin_ns is not None and now_ns >= self._begin_ns:
            self._begin(now_ns)
        if self._collector is not None and now_ns >= self._sent_ns + SEND_NS:
            self._send(self._collector, now_ns)

    async def stop(self) -> None:
        starting, self._starting = self._starting, None
        if starting is not None:
            starting.cancel()
            await asyncio.gather(starting, return_exceptions=True)
        process, self._process = self._process, None
        if process is not None:
            await process.stop()

    # -- for those who look

    def seen(self) -> ShadowsSeen:
        """O(buckets x policies)."""
        collector = self._collector
        behind_ns = self._now_ns - self._began_ns - self._known_ns
        return ShadowsSeen(
            live_policy=self._policies[0],
            figures=() if collector is None else tuple(self._comparison.figures()),
            states=self._states,
            counts=Collected() if collector is None else collector.counts,
            behind_s=0.0 if collector is None else max(0.0, behind_ns / 1e9),
            restarts=max(0, self._restarts),
            batches_lost=self._batches_lost,
        )

    def would_have(self, request_id: str) -> tuple[WouldHave, ...]:
        """What each shadow did with it; none: it is not known yet, or no more."""
        results = self._told.get(request_id, {})
        return tuple(
            WouldHave(
                self._policies[one.policy],
                self._workers[one.worker],
                one.ttft_ns / 1e6,
                one.cached_tokens,
            )
            for _, one in sorted(results.items())
            if 0 <= one.worker < len(self._workers)
        )

    # -- beginnings

    def _joined(self, record: WorkerJoined) -> None:
        facts = record.facts
        before = self._facts.get(facts.worker_id)
        self._facts[facts.worker_id] = facts
        if before is None or _shape(before) != _shape(facts):
            self._begin_ns = record.now_ns + SETTLE_NS

    def _begin(self, now_ns: int) -> None:
        """Of the fleet as it is now: who is not there any more is left out."""
        self._begin_ns = None
        listed = self._observed.runtime.core.member_states()
        self._facts = {one: facts for one, facts in self._facts.items() if one in listed}
        if not self._facts:
            return
        self._workers = tuple(sorted(self._facts))
        self._collector = Collector(self._workers, now_ns, self._lag_ns, self._output_keys)
        self._comparison = Comparison(self._policies, self._window_ns)
        self._states = ()
        self._ids.clear()
        self._told.clear()
        self._failed.clear()
        self._began_ns, self._known_ns, self._sent_ns, self._timed_ns = now_ns, 0, now_ns, 0
        self._restarts += 1
        begin = Begin(
            self._restarts,
            self._policies,
            tuple(_shape(self._facts[one]) for one in self._workers),
            next(iter(self._facts.values())).block_size,
            self._observed.settings.seed,
        )
        if self._process is None:
            self._starting = asyncio.create_task(self._start(begin), name="start of shadows")
        else:
            self._process.send(begin)

    async def _start(self, begin: Begin) -> None:
        process = ShadowProcess(self._take, self._lost)
        await process.start()
        self._process = process
        process.send(begin)

    def _lost(self, why: str) -> None:
        """It ended by itself: another one begins anew."""
        process, self._process = self._process, None
        if process is not None:
            self._starting = asyncio.create_task(process.stop())
        self._collector = None
        self._begin_ns = self._now_ns + 2 * SETTLE_NS

    # -- batches

    def _send(self, collector: Collector, now_ns: int) -> None:
        process = self._process
        if process is None:
            return
        self._sent_ns = now_ns
        timings = tuple[ShadowTiming, ...]()
        if now_ns >= self._timed_ns + TIMINGS_NS:
            timings, self._timed_ns = tuple(self._timings()), now_ns
        taken = collector.take(now_ns)
        if not process.send(msgspec.structs.replace(taken.batch, timings=timings)):
            # What it was told and what it would be told next do not fit together.
            self._batches_lost += 1
            self._collector = None
            self._begin_ns = now_ns + SETTLE_NS
            return
        for row, asked in zip(taken.batch.rows, taken.asked, strict=True):
            self._comparison.asked(
                row.tag, asked.live, arrival_ns=row.arrival_ns, prompt_tokens=row.prompt_tokens
            )
            self._ids[row.tag] = asked.request_id
        while len(self._ids) > MAX_REMEMBERED:
            self._ids.popitem(last=False)

    def _timings(self) -> Iterator[ShadowTiming]:
        core = self._observed.runtime.core
        listed = core.member_states()
        for number, worker_id in enumerate(self._workers):
            if worker_id in listed:
                speed = core.speed_of(worker_id)
                yield ShadowTiming(
                    number,
                    speed.prefill_base_ms,
                    speed.ms_per_prefill_token,
                    speed.step_base_ms,
                    speed.ms_per_decode,
                )

    def _take(self, told: Results) -> None:
        """Its answer to one batch."""
        if self._collector is None or told.beginning != self._restarts:
            return  # it is of a fleet that is over
        self._known_ns, self._states = told.until_ns, told.states
        running = sum(not state.error for state in told.states)
        for state in told.states:
            if state.error and state.policy not in self._failed:
                self._failed.add(state.policy)
                _log.error(
                    "the shadow of %s has ended: %s", self._policies[state.policy], state.error
                )
        self._comparison.answered(told.results, running)
        for result in told.results:
            request_id = self._ids.get(result.tag)
            if request_id is not None:
                self._told.setdefault(request_id, {})[result.policy] = result
        while len(self._told) > MAX_REMEMBERED:
            self._told.popitem(last=False)

    def _output_keys(self, spec: RequestSpec, emitted: bytes) -> Keys:
        """What its engine cached of prompt and output: the last token is never computed."""
        served = self._observed.runtime.handshake.served
        if served is None:
            return spec.keys
        size = served.facts.block_size
        tail = spec.prompt[len(spec.keys) * size :]
        output = np.frombuffer(emitted, "<u4")[:-1].astype(np.uint32, copy=False)
        if len(tail) + len(output) < size:
            return spec.keys
        last = BlockKey(int(spec.keys[-1])) if len(spec.keys) else None
        seed = served.facts.scope.seed_of(spec.scope)
        more = extend_keys(last, np.concatenate([tail, output]), size, seed)
        return np.concatenate([spec.keys, more])


def _shape(facts: WorkerFacts) -> ShadowWorker:
    return ShadowWorker(
        facts.kv_blocks_total,
        facts.max_num_seqs or USUAL_SEQS,
        facts.max_batched_tokens or USUAL_BATCHED,
    )
