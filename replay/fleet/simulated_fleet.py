"""The simulated fleet: workers with queues, batches and prefix caches, in virtual time.

Owns the arrays that `kernels` works on and the buffers it writes. Knows no router: whoever
drives it submits requests to workers and reads what happened. No clock, no randomness.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import Keys, Numbers
from radixroute.radix.index.layout import PACKED_HEAD, PACKED_REMOVE
from radixroute.replay.arrays import Cells
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.attempts import EarlierAttempts
from radixroute.replay.fleet.shape import FleetBuffers, FleetShape
from radixroute.replay.fleet.tables import (
    new_requests,
    new_slots,
    new_workers,
    power_of_two,
    refuse_impossible,
    timing_rows,
)
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.traces.trace import Prefixes, Trace


@dataclass(frozen=True, slots=True, eq=False)
class CacheWords:
    """How the caches of some steps changed, in order of time."""

    rows: Numbers  # shape (steps, 4): time, worker, first and end of its words
    words: Keys  # packed as `radix.index.layout` says


@dataclass(frozen=True, slots=True)
class FleetStep:
    """A step that computed prompt tokens or gave a first or last token."""

    end_ns: int
    worker: int
    step_ns: int
    prefill_tokens: int
    decodes: int
    items: tuple[tuple[int, int], ...]  # (request, FIRST_TOKEN | LAST_TOKEN)
    decode_steps: int  # steps since the report before that only decoded,
    decode_ns: int  # their time
    decoded: int  # and the requests in them


class SimulatedFleet:
    """All simulated workers. `advance` is the only thing that lets time pass."""

    def __init__(
        self,
        trace: Trace,
        prefixes: Prefixes,
        shape: FleetShape,
        timing: Timing,
        *,
        buffers: FleetBuffers | None = None,
        last_of: Numbers | None = None,
    ) -> None:
        """`last_of`: of each request, how many its session had if it says that it is the last of
        it, else 0; None: nobody says so."""
        from radixroute.replay.fleet import kernels  # here: numba takes 0.5 s to import

        self._kernels = kernels
        self.shape = shape
        self.now_ns = 0
        self.requests = new_requests(trace, prefixes, last_of)
        refuse_impossible(self.requests, shape)
        self._nodes = prefixes.nodes
        self.workers = new_workers(shape)
        self._limits = np.zeros(at.LIMITS_LEN, np.int64)
        self._limits[at.MAX_BATCHED] = shape.max_num_batched_tokens
        self._limits[at.MAX_SEQS] = shape.max_num_seqs
        self._limits[at.BLOCK] = shape.block_size
        self._limits[at.WATERMARK] = shape.watermark_blocks
        self._cursors = np.zeros(at.CURSORS_LEN, np.int64)
        self._changes: list[CacheWords] = []
        self._steps: list[FleetStep] = []
        self._new_buffers(buffers or FleetBuffers())
        self.attempts = EarlierAttempts(self.requests)
        n, blocks = shape.workers, max(shape.caches)
        running = np.zeros((n, shape.max_num_seqs), np.int32)
        self._timings = timing_rows(shape, timing)
        self._ends = np.full(2 * power_of_two(n), at.NEVER, np.int64)
        idle = np.zeros(at.IDLE_LIST + 2 * n, np.int64)
        self._slots = new_slots(shape)
        self._runs = np.zeros((n, blocks, at.RUN_LEN), np.int64)
        self._buckets = np.zeros((n, power_of_two(max(16, 3 * blocks))), np.int64)
        self._running, self._idle = running, idle
        self._collect()

    def _collect(self) -> None:
        """The arrays that kernels take, as they are now."""
        running, idle, timings, ends = self._running, self._idle, self._timings, self._ends
        self._agenda = (self.requests, self.workers, running, timings, ends, idle)
        self._arrays = (
            self.requests,
            self._nodes,
            self.workers,
            self._slots,
            self._runs,
            self._buckets,
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
        self._cursors[at.KEEPS_EVENTS] = 1

    def exchange(self, requests: NDArray[np.int64], nodes: Cells) -> None:
        """The table is another one from now on, with the same rows and more, and so are the nodes
        that its rows name: `new_requests` has its columns."""
        self.requests, self._nodes = requests, nodes
        self.attempts.exchange(requests)
        self._collect()

    def set_timing(self, worker: int, timing: Timing) -> None:
        """Its steps take what this says; the one that runs goes on as it is."""
        self._kernels.interrupt(*self._agenda, worker, self.now_ns)
        slowness = self._timings[worker, at.SLOWNESS]
        self._timings[worker] = timing.coefficients(self.shape)
        self._timings[worker, at.SLOWNESS] = slowness

    def submit(self, request: int, worker: int, now_ns: int) -> None:
        """The request reaches this worker's queue."""
        self._kernels.submit(*self._agenda, request, worker, now_ns)

    def set_slowness(self, worker: int, slowness: float) -> None:
        """Its steps take so many times what the timing says; the one that runs goes on as it is."""
        self._kernels.interrupt(*self._agenda, worker, self.now_ns)
        self._timings[worker, at.SLOWNESS] = slowness

    def die(self, worker: int) -> list[tuple[int, int]]:
        """The worker dies now, and its next life begins, with an empty cache.

        Returns who waited or ran there, by number, and the tokens each had put out in all; whoever
        drives the fleet submits them elsewhere, where they go on. O(requests).
        """
        self._kernels.interrupt(*self._agenda, worker, self.now_ns)
        lost = self.attempts.cut_off(worker)
        self.workers[worker, [at.N_RUNNING, at.N_WAITING]] = 0
        self.renew(worker)
        return lost

    def renew(self, worker: int) -> None:
        """An idle worker's next life begins: its cache is empty, which is told as blocks removed.

        Raises BrokenInvariant for a busy one. What it did so far stays counted.
        """
        from radixroute.replay.fleet.agenda import note_end  # here: numba takes 0.5 s to import

        row = self.workers[worker]
        if row[at.N_RUNNING] or row[at.N_WAITING]:
            raise BrokenInvariant(f"worker {worker} has requests still")
        self._tell_removed(worker)
        counted = row[[at.N_PREEMPTED, at.N_EVICTED, at.BUSY_NS]]
        row[:] = new_workers(self.shape)[worker]
        row[[at.N_PREEMPTED, at.N_EVICTED, at.BUSY_NS]] = counted
        self._slots[worker] = new_slots(self.shape)[worker]
        self._runs[worker] = 0
        self._buckets[worker] = 0
        note_end(self._ends, worker, at.NEVER)

    def advance(self, until_ns: int, *, stop: int = at.REPORT) -> int:
        """Lets time pass up to `until_ns`; returns the time reached.

        Steps that would begin then have not begun: what arrives at that time still joins them.
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

    def step_starts(self) -> Numbers:
        """When each worker's step of now began, shape (workers,). O(workers)."""
        self._kernels.settle(self.now_ns, *self._agenda)
        return self.workers[:, at.STEP_START]

    def take_reports(self) -> list[FleetStep]:
        """What happened since the last call, in order of time and worker."""
        self._empty_buffers()
        taken, self._steps = self._steps, []
        return taken

    def has_told_of(self, ns: int) -> bool:
        """Whether something that ended then is in `take_reports`."""
        self._empty_buffers()
        return bool(self._steps) and self._steps[-1].end_ns == ns

    def take_events(self) -> list[CacheWords]:
        """Of each step that changed a cache since the last call."""
        self._empty_buffers()
        taken, self._changes = self._changes, []
        return taken

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

    def _tell_removed(self, worker: int) -> None:
        """Everything that this worker's cache holds."""
        held = self._buckets[worker]
        nodes = (held[held != 0] >> 32).astype(np.int32)
        if not (self._cursors[at.KEEPS_EVENTS] and len(nodes)):
            return
        self._empty_buffers()  # what came before is told before
        words = np.empty(PACKED_HEAD + len(nodes), np.uint64)
        words[:PACKED_HEAD] = PACKED_REMOVE, 0, len(nodes)
        self._kernels.keys_of(nodes, words[PACKED_HEAD:])
        rows = np.array([[self.now_ns, worker, 0, len(words)]], np.int64)
        self._changes.append(CacheWords(rows, words))

    def _new_buffers(self, sizes: FleetBuffers) -> None:
        n = self.shape.workers
        least_words = self._kernels.words_of_a_step(self._limits)
        least_items = n * self.shape.max_num_seqs
        self._words = np.zeros(sizes.words + least_words, np.uint64)
        self._events = np.zeros((sizes.events + 1, at.EVENT_LEN), np.int64)
        self._reports = np.zeros((sizes.reports + n, at.REPORT_LEN), np.int64)
        self._items = np.zeros((sizes.items + least_items, at.ITEM_LEN), np.int64)

    def _empty_buffers(self) -> None:
        n_reports, n_items, n_words, n_events = self._cursors[: at.N_EVENTS + 1].tolist()
        if n_events:
            words = self._words[:n_words].copy()
            self._changes.append(CacheWords(self._events[:n_events].copy(), words))
            self._cursors[at.N_EVENTS] = self._cursors[at.N_WORDS] = 0
        if n_reports:
            items = self._items[:n_items].tolist()
            rows = self._reports[:n_reports].tolist()
            self._steps.extend([_report(row, items) for row in rows])
            self._cursors[at.N_REPORTS] = self._cursors[at.N_ITEMS] = 0


def _report(row: list[int], items: list[list[int]]) -> FleetStep:
    first = row[at.R_FIRST_ITEM]
    mine = items[first : first + row[at.R_N_ITEMS]]
    return FleetStep(
        end_ns=row[at.R_END],
        worker=row[at.R_WORKER],
        step_ns=row[at.R_STEP_NS],
        prefill_tokens=row[at.R_PREFILL],
        decodes=row[at.R_DECODES],
        items=tuple((request, kind) for request, kind in mine),
        decode_steps=row[at.R_DECODE_STEPS],
        decode_ns=row[at.R_DECODE_NS],
        decoded=row[at.R_DECODED],
    )
