"""The simulated fleet: workers with queues, batches and prefix caches, in virtual time.

Owns the arrays that `fleet_kernels` works on and the buffers it writes. Knows no router: whoever
drives it submits requests to workers and reads what happened. No clock, no randomness.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.tree.eviction import EVICTION_POLICIES, LRU, eviction_named
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.layout import Cells, Floats
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.traces.trace import Prefixes, Trace

_SIZES = ("workers", "kv_blocks", "block_size", "max_num_batched_tokens", "max_num_seqs")


@dataclass(frozen=True, slots=True)
class FleetShape:
    """The workers of a simulated fleet; all alike but for `slowness`."""

    workers: int
    kv_blocks: int  # of each worker
    block_size: int = 16  # tokens
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    watermark_blocks: int = 0
    slowness: tuple[float, ...] = ()  # of the first workers; 2: half as fast
    eviction_policy: str = LRU  # of `radix.eviction.EVICTION_POLICIES`

    def __post_init__(self) -> None:
        for name in _SIZES:
            if getattr(self, name) < 1:
                raise InvalidShape(f"{name} must be at least 1, not {getattr(self, name)}")
        if len(self.slowness) > self.workers or any(s <= 0 for s in self.slowness):
            raise InvalidShape("slowness: one number above 0 for each worker at most")
        if self.eviction_policy not in EVICTION_POLICIES:
            raise InvalidShape(
                f"no eviction policy is called {self.eviction_policy!r}; use one of"
                f" {', '.join(EVICTION_POLICIES)}"
            )


@dataclass(frozen=True, slots=True)
class FleetBuffers:
    """How much the fleet's kernel writes before it must be read. Changes no result.

    Rows beyond the least that one moment of the whole fleet may need.
    """

    words: int = 1 << 20
    events: int = 1 << 15
    reports: int = 1 << 14
    items: int = 1 << 17


@dataclass(frozen=True, slots=True, eq=False)
class CacheWords:
    """How the caches of some passes changed, in order of time."""

    rows: Numbers  # shape (passes, 4): time, worker, first and end of its words
    words: Keys  # packed as `radix.layout` says


@dataclass(frozen=True, slots=True)
class PassReport:
    """A pass that computed prompt tokens or gave a first or last token."""

    end_ns: int
    worker: int
    pass_ns: int
    prefill_tokens: int
    decodes: int
    items: tuple[tuple[int, int], ...]  # (request, FIRST_TOKEN | LAST_TOKEN)
    decode_passes: int  # passes since the report before that only decoded,
    decode_ns: int  # their time
    decoded: int  # and the requests in them


class Fleet:
    """All simulated workers. `advance` is the only thing that lets time pass."""

    def __init__(
        self,
        trace: Trace,
        prefixes: Prefixes,
        shape: FleetShape,
        timing: Timing,
        *,
        buffers: FleetBuffers | None = None,
    ) -> None:
        from radixroute.replay.fleet import (
            kernels as fleet_kernels,  # here: numba takes 0.5 s to import
        )

        self._kernels = fleet_kernels
        self.shape = shape
        self.now_ns = 0
        self.requests = _new_requests(trace, prefixes)
        _refuse_impossible(self.requests, shape)
        self.workers = _new_workers(shape)
        self._limits = np.zeros(at.LIMITS_LEN, np.int64)
        self._limits[at.MAX_BATCHED] = shape.max_num_batched_tokens
        self._limits[at.MAX_SEQS] = shape.max_num_seqs
        self._limits[at.BLOCK] = shape.block_size
        self._limits[at.WATERMARK] = shape.watermark_blocks
        self._cursors = np.zeros(at.CURSORS_LEN, np.int64)
        self._told: list[CacheWords] = []
        self._reported: list[PassReport] = []
        self._new_buffers(buffers or FleetBuffers())
        n, blocks = shape.workers, shape.kv_blocks
        running = np.zeros((n, shape.max_num_seqs), np.int32)
        timings = _coefficients(shape, timing)
        ends = np.full(2 * _power_of_two(n), at.NEVER, np.int64)
        idle = np.zeros(at.IDLE_LIST + 2 * n, np.int64)
        self._agenda = (self.requests, self.workers, running, timings, ends, idle)
        self._arrays = (
            self.requests,
            prefixes.nodes,
            self.workers,
            _new_slots(shape),
            np.zeros((n, blocks, at.RUN_LEN), np.int64),
            np.zeros((n, _power_of_two(max(16, 3 * blocks))), np.int64),
            running,
            self._limits,
            timings,
            self._words,
            self._events,
            self._reports,
            self._items,
            self._cursors,
            ends,
            idle,
        )

    def listen(self) -> None:
        """From now on cache events are kept for `take_events`."""
        self._cursors[at.IS_TOLD] = 1

    def submit(self, request: int, worker: int, now_ns: int) -> None:
        """The request reaches this worker's queue."""
        self._kernels.submit(*self._agenda, request, worker, now_ns)

    def advance(self, until_ns: int, *, stop: int = at.REPORT) -> int:
        """Lets time pass up to `until_ns`; returns the time reached.

        Passes that would begin then have not begun: what arrives at that time still joins them.
        Only to the first time with something in `take_reports`; with `at.FOLLOWED` to the first at
        which a request ends that another one follows, with `at.NO_STOP` all the way.
        """
        while True:
            reached = self._kernels.advance(self.now_ns, until_ns, stop, *self._arrays)
            if reached >= 0:
                self.now_ns = reached
                return reached
            self.now_ns = -1 - reached
            self._empty_buffers()

    def pass_starts(self) -> Numbers:
        """When each worker's pass of now began, shape (workers,). O(workers)."""
        self._kernels.settle(self.now_ns, *self._agenda)
        return self.workers[:, at.PASS_START]

    def take_reports(self) -> list[PassReport]:
        """What happened since the last call, in order of time and worker."""
        self._empty_buffers()
        reported, self._reported = self._reported, []
        return reported

    def take_events(self) -> list[CacheWords]:
        """Of each pass that changed a cache since the last call."""
        self._empty_buffers()
        told, self._told = self._told, []
        return told

    @property
    def n_unique(self) -> int:
        """Output blocks that may be made: their nodes follow those of the prompts."""
        rows = self.requests
        most = rows[:, at.PROMPT] + rows[:, at.OUTPUT] - 1
        return int((most // self.shape.block_size - rows[:, at.N_NODES]).sum())

    @property
    def is_idle(self) -> bool:
        """Nobody waits or runs anywhere."""
        work = self.workers[:, at.N_RUNNING] + self.workers[:, at.N_WAITING]
        return not work.any()

    def _new_buffers(self, sizes: FleetBuffers) -> None:
        n = self.shape.workers
        least_words = self._kernels.words_of_a_pass(self._limits)
        least_items = n * self.shape.max_num_seqs
        self._words = np.zeros(sizes.words + least_words, np.uint64)
        self._events = np.zeros((sizes.events + 1, at.EVENT_LEN), np.int64)
        self._reports = np.zeros((sizes.reports + n, at.REPORT_LEN), np.int64)
        self._items = np.zeros((sizes.items + least_items, at.ITEM_LEN), np.int64)

    def _empty_buffers(self) -> None:
        n_reports, n_items, n_words, n_events = self._cursors[: at.N_EVENTS + 1].tolist()
        if n_events:
            words = self._words[:n_words].copy()
            self._told.append(CacheWords(self._events[:n_events].copy(), words))
            self._cursors[at.N_EVENTS] = self._cursors[at.N_WORDS] = 0
        if n_reports:
            items = self._items[:n_items].tolist()
            rows = self._reports[:n_reports].tolist()
            self._reported.extend([_report(row, items) for row in rows])
            self._cursors[at.N_REPORTS] = self._cursors[at.N_ITEMS] = 0


def _report(row: list[int], items: list[list[int]]) -> PassReport:
    first = row[at.R_FIRST_ITEM]
    mine = items[first : first + row[at.R_N_ITEMS]]
    return PassReport(
        end_ns=row[at.R_END],
        worker=row[at.R_WORKER],
        pass_ns=row[at.R_PASS_NS],
        prefill_tokens=row[at.R_PREFILL],
        decodes=row[at.R_DECODES],
        items=tuple((request, kind) for request, kind in mine),
        decode_passes=row[at.R_DECODE_PASSES],
        decode_ns=row[at.R_DECODE_NS],
        decoded=row[at.R_DECODED],
    )


def _new_requests(trace: Trace, prefixes: Prefixes) -> NDArray[np.int64]:
    requests = np.zeros((len(trace), at.REQUEST_LEN), np.int64)
    requests[:, at.PROMPT] = trace.input_tokens
    requests[:, at.OUTPUT] = trace.output_tokens
    requests[trace.after[trace.after >= 0], at.IS_FOLLOWED] = 1
    requests[:, at.FIRST_NODE] = prefixes.first[:-1]
    requests[:, at.N_NODES] = np.diff(prefixes.first)
    unset = (
        at.WORKER,
        at.NEXT,
        at.LEAF,
        at.PARTIAL,
        at.CACHED,
        at.ARRIVED_NS,
        at.ADMITTED_NS,
        at.FIRST_NS,
        at.FINISH_NS,
    )
    requests[:, unset] = -1
    most = requests[:, at.PROMPT] + requests[:, at.OUTPUT] - 1
    n_outputs = most // prefixes.block_size - requests[:, at.N_NODES]
    requests[:, at.FIRST_OUTPUT] = prefixes.n_nodes + np.cumsum(n_outputs) - n_outputs
    if prefixes.n_nodes + n_outputs.sum() >= np.iinfo(np.int32).max:
        raise InvalidShape("prompts and outputs are more than two billion blocks; cut the trace")
    return requests


def _new_workers(shape: FleetShape) -> Numbers:
    workers = np.zeros((shape.workers, at.WORKER_LEN), np.int64)
    none = (at.PASS_END, at.FREE_RUN, at.WAIT_HEAD, at.WAIT_TAIL, at.TWIN_HEAD)
    workers[:, none] = -1
    workers[:, at.N_FREE] = shape.kv_blocks
    policy = eviction_named(shape.eviction_policy, shape.kv_blocks, shape.block_size)
    if policy is not None:
        columns = (at.USE_STEP, at.USE_TOP, at.USE_INTERVALS, at.USE_FAR)
        workers[:, columns] = policy.step, policy.top, policy.intervals, policy.far
    return workers


def _new_slots(shape: FleetShape) -> Cells:
    slots = np.zeros((shape.workers, shape.kv_blocks, at.SLOT_LEN), np.int32)
    slots[:, :, at.AFTER] = np.arange(1, shape.kv_blocks + 1)
    slots[:, -1, at.AFTER] = -1
    return slots


def _coefficients(shape: FleetShape, timing: Timing) -> Floats:
    rows = np.tile(timing.coefficients(shape), (shape.workers, 1))
    rows[: len(shape.slowness), at.SLOWNESS] *= shape.slowness
    return rows


def _refuse_impossible(requests: Numbers, shape: FleetShape) -> None:
    most = requests[:, at.PROMPT] + requests[:, at.OUTPUT] - 1
    wanted = -(-most // shape.block_size)
    too_long = int((wanted > shape.kv_blocks).sum())
    if too_long:
        longest = int(wanted.max())
        raise InvalidShape(
            f"{too_long} requests do not fit a worker of {shape.kv_blocks} blocks of"
            f" {shape.block_size} tokens; the longest needs {longest}: ask for larger workers"
        )


def _power_of_two(least: int) -> int:
    """The smallest that is no less."""
    return 1 << (least - 1).bit_length()
