"""What the simulated fleet is held equal to: real schedulers over real prefix caches, real tokens.

Driven in virtual time with the fleet's own timing formula, one step at a time, in plain Python. The
tokens of a prefix block are made from its number, so that equal numbers are equal tokens; the ends
of prompts and all outputs are tokens that appear once.
"""

import itertools
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.traces.trace import Prefixes, Trace
from radixroute.request.sampling import SamplingParams
from radixroute.worker.engine.cache import PrefixCache
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.engine.runner import StepResult
from radixroute.worker.engine.scheduler import Scheduler
from radixroute.worker.engine.sequence import Sequence
from radixroute.worker.engine.step import SchedulerLimits

SCOPE = Scope("slow fleet", 1)
SEED = SCOPE.seed
_ONCE_FROM = 1 << 24  # above all tokens of prefix blocks


@dataclass
class SlowRow:
    """What became of one request."""

    sequence: Sequence  # of the last attempt
    earlier: list[Sequence] = field(default_factory=list)  # cut off when a worker died
    first_ns: int = -1
    finish_ns: int = -1


@dataclass
class SlowWorker:
    cache: PrefixCache
    scheduler: Scheduler
    slowness: float
    kv_blocks: int
    end_ns: int | None = None
    n_sampled: int = 0
    steps: list[tuple[int, int, int, int]] = field(default_factory=list)  # start, end, counts
    held: set[int] = field(default_factory=set)  # keys in its cache
    preemptions: int = 0  # of earlier lives
    evicted: int = 0


class SlowFleet:
    """`submit` and `advance` as `SimulatedFleet` has them; `advance` never stops early."""

    def __init__(
        self,
        trace: Trace,
        prefixes: Prefixes,
        shape: FleetShape,
        timing: Timing,
        last_of: Any = None,  # of `SimulatedFleet`
    ) -> None:
        self._last_of = [0] * len(trace) if last_of is None else last_of.tolist()
        self._trace, self._prefixes, self._shape, self._timing = trace, prefixes, shape, timing
        self._once = itertools.count(_ONCE_FROM)
        self.now_ns = 0
        self.rows: dict[int, SlowRow] = {}
        self.events: list[tuple[int, int, list[Any]]] = []  # time, worker, its step's events
        self.workers = [
            self._new_worker(slow, kv_blocks)
            for slow, kv_blocks in zip(shape.slownesses, shape.caches, strict=True)
        ]

    def submit(self, request: int, worker: int, now_ns: int) -> None:
        sampling = SamplingParams(max_tokens=int(self._trace.output_tokens[request]))
        none = np.empty(0, np.uint32)
        prompt = self._prompt(request)
        last_of = self._last_of[request] or None
        wanted = EngineRequest(
            str(request), 1, "s", prompt, sampling, none, last_of_session=last_of
        )
        self.rows[request] = SlowRow(self._submit(wanted, worker, now_ns))

    def set_slowness(self, worker: int, slowness: float) -> None:
        self.workers[worker].slowness = slowness

    def die(self, worker: int) -> list[int]:
        """Who was there, by number. Its cache is empty now, told as blocks removed."""
        old = self.workers[worker]
        lost = {int(one.request.request_id): one for one in old.scheduler.sequences()}
        for request, sequence in lost.items():
            self.rows[request].earlier.append(sequence)
        if old.held:
            keys = np.array(sorted(old.held), np.uint64)
            self.events.append((self.now_ns, worker, [BlocksRemoved(keys)]))
        new = self.workers[worker] = self._new_worker(old.slowness, old.kv_blocks)
        new.preemptions = old.preemptions + old.scheduler.counters.preemptions
        new.evicted = old.evicted + old.cache.counters.evicted
        return sorted(lost)

    def resume(self, request: int, worker: int, now_ns: int) -> None:
        """Elsewhere, with what it had put out."""
        row = self.rows[request]
        was = row.earlier[-1].request
        emitted = row.earlier[-1].tokens[len(was.prompt) :].copy()
        again = replace(was, attempt=was.attempt + 1, emitted=emitted)
        row.sequence = self._submit(again, worker, now_ns)

    def advance(self, until_ns: int) -> None:
        while True:
            for which, worker in enumerate(self.workers):
                if worker.end_ns is None:
                    self._begin(which, worker)
            ends = [worker.end_ns for worker in self.workers if worker.end_ns is not None]
            if not ends or min(ends) > until_ns:
                self.now_ns = until_ns
                return
            self.now_ns = min(ends)
            for worker in self.workers:
                if worker.end_ns == self.now_ns:
                    self._end(worker)
            if self.now_ns == until_ns:
                return

    def nodes_by_key(self, first_outputs: list[int]) -> dict[int, int]:
        """Key -> number of each block that was ever full; outputs count from `first_outputs`."""
        found: dict[int, int] = {}
        for request, row in self.rows.items():
            keys = block_keys(row.sequence.tokens, self._shape.block_size, SEED).tolist()
            nodes = self._prefixes.of(request).tolist()
            outputs = range(first_outputs[request], first_outputs[request] + len(keys))
            found |= dict(zip(keys, [*nodes, *outputs], strict=False))
        return found

    def _submit(self, wanted: EngineRequest, worker: int, now_ns: int) -> Sequence:
        scheduler = self.workers[worker].scheduler
        scheduler.submit(wanted, now_ns)
        *_, sequence = scheduler.sequences()
        return sequence

    def _new_worker(self, slowness: float, kv_blocks: int) -> SlowWorker:
        shape = self._shape
        cache = PrefixCache(
            kv_blocks, shape.block_size, SCOPE, eviction_policy=shape.eviction_policy
        )
        limits = SchedulerLimits(
            max_model_len=1 << 30,
            max_num_seqs=shape.max_num_seqs,
            max_num_batched_tokens=shape.max_num_batched_tokens,
            max_waiting=1 << 30,
            watermark_blocks=shape.watermark_blocks,
            preemption_order="youngest",
            eos_token_ids=frozenset(),
        )
        return SlowWorker(cache, Scheduler(cache, limits), slowness, kv_blocks)

    def _prompt(self, request: int) -> np.ndarray[Any, np.dtype[np.uint32]]:
        size, n_tokens = self._shape.block_size, int(self._trace.input_tokens[request])
        nodes = self._prefixes.of(request).astype(np.int64)
        full = (nodes[:, None] * size + np.arange(size)).ravel()
        rest = [next(self._once) for _ in range(n_tokens - len(full))]
        return np.concatenate([full, rest]).astype(np.uint32)

    def _begin(self, which: int, worker: SlowWorker) -> None:
        planned = worker.scheduler.schedule(self.now_ns)
        events = list(worker.cache.take_events())
        if events:
            self.events.append((self.now_ns, which, events))
            _note(worker.held, events)
        if planned is None:
            return
        decoding = [part.sequence.n_tokens for part in planned.sequences if part.is_decode]
        prefill, decodes = planned.prefill_tokens, len(decoding)
        chunks = [part for part in planned.sequences if not part.is_decode]
        pairs = sum(
            read + 1
            for part in chunks
            for read in range(part.sequence.n_computed, part.sequence.n_computed + part.n_tokens)
        )
        worker.end_ns = self.now_ns + self._step_ns(
            prefill, len(chunks), pairs, decodes, sum(decoding), worker
        )
        worker.n_sampled = sum(part.samples for part in planned.sequences)
        worker.steps.append((self.now_ns, worker.end_ns, prefill, decodes))

    def _step_ns(
        self, prefill: int, prompts: int, pairs: int, decodes: int, context: int, worker: SlowWorker
    ) -> int:
        timing, shape = self._timing, self._shape
        ms = timing.every
        if prefill:
            ms += (timing.a2 * prefill + timing.a1) * prefill + timing.a0
            ms += timing.a_pair * pairs + timing.a_each * prompts
        if decodes:
            p = context / float(worker.kv_blocks * shape.block_size)
            decode_ms = (timing.d2 * p + timing.d1) * p + timing.d0 + timing.d_each * decodes
            ms += max(timing.d_min, decode_ms)
        return max(1, round(ms * worker.slowness * 1e6))

    def _end(self, worker: SlowWorker) -> None:
        sampled = [next(self._once) for _ in range(worker.n_sampled)]
        worker.end_ns = None
        for output in worker.scheduler.commit(StepResult(tuple(sampled)), self.now_ns):
            row = self.rows[int(output.request_id)]
            if row.first_ns < 0:
                row.first_ns = self.now_ns
            if output.finish is not None:
                row.finish_ns = self.now_ns


def _note(held: set[int], events: list[Any]) -> None:
    """What these leave in a cache."""
    for change in events:
        keys = set(change.keys.tolist())
        if isinstance(change, BlocksStored):
            held |= keys
        else:
            held -= keys


def numbered_events(events: list[tuple[int, int, list[Any]]], nodes: dict[int, int]) -> list[Any]:
    """Events in numbers of blocks: (time, worker, [(parent or None, stored) or (removed,)])."""
    rows = []
    for ns, worker, changes in events:
        plain: list[Any] = []
        for change in changes:
            numbers = [nodes[key] for key in change.keys.tolist()]
            if isinstance(change, BlocksStored):
                plain.append((None if change.parent is None else nodes[change.parent], numbers))
            else:
                plain.append((numbers,))
        rows.append((ns, worker, plain))
    return rows
