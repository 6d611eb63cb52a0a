"""The simulated fleet: workers with queues, batches and prefix caches, in virtual time.

Owns the arrays that `fleet_kernels` works on and the buffers it writes. Knows no router: whoever
drives it submits requests to workers and reads what happened. No clock, no randomness.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Keys, Numbers
from radixroute.replay import fleet_layout as at
from radixroute.replay.errors import InvalidShape
from radixroute.replay.timing import Timing
from radixroute.replay.trace import Prefixes, Trace

_WORDS = 1 << 20
_REPORTS = 1 << 14
_ITEMS = 1 << 17
_EVENTS = 1 << 15
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

    def __post_init__(self) -> None:
        for name in (
            "workers",
            "kv_blocks",
            "block_size",
            "max_num_batched_tokens",
            "max_num_seqs",
        ):
            if getattr(self, name) < 1:
                raise InvalidShape(f"{name} must be at least 1, not {getattr(self, name)}")
        if len(self.slowness) > self.workers or any(s <= 0 for s in self.slowness):
            raise InvalidShape("slowness: one number above 0 for each worker at most")


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

    def __init__(self, trace: Trace, prefixes: Prefixes, shape: FleetShape, timing: Timing) -> None:
        from radixroute.replay import fleet_kernels  # here: numba takes 0.5 s to import

        self._kernels = fleet_kernels
        self.shape = shape
        self.now_ns = 0
        self.requests = _new_requests(trace, prefixes)
        _refuse_impossible(self.requests, shape)
        n, blocks = shape.workers, shape.kv_blocks
        self.workers: Numbers = np.zeros((n, at.WORKER_LEN), np.int64)
        for field in (at.PASS_END, at.COLD_HEAD, at.COLD_TAIL, at.WAIT_HEAD, at.WAIT_TAIL):
            self.workers[:, field] = -1
        self.workers[:, at.TWIN_HEAD] = -1
        self.workers[:, at.N_FREE] = blocks
        slots = np.zeros((n, blocks, at.SLOT_LEN), np.int32)
        slots[:, :, at.AFTER] = np.arange(1, blocks + 1)
        slots[:, -1, at.AFTER] = -1
        self._limits = np.zeros(at.LIMITS_LEN, np.int64)
        self._limits[at.MAX_BATCHED] = shape.max_num_batched_tokens
        self._limits[at.MAX_SEQS] = shape.max_num_seqs
        self._limits[at.BLOCK] = shape.block_size
        self._limits[at.N_UNIQUE_FROM] = prefixes.n_nodes
        self._limits[at.WATERMARK] = shape.watermark_blocks
        coefficients = np.tile(timing.coefficients(shape), (n, 1))
        coefficients[: len(shape.slowness), at.SLOWNESS] *= shape.slowness
        self._cursors = np.zeros(at.CURSORS_LEN, np.int64)
        self._words = np.zeros(_WORDS + 64 * shape.max_num_batched_tokens, np.uint64)
        self._events = np.zeros((_EVENTS + n, at.EVENT_LEN), np.int64)
        self._reports = np.zeros((_REPORTS + n, at.REPORT_LEN), np.int64)
        self._items = np.zeros((_ITEMS + n * shape.max_num_seqs, at.ITEM_LEN), np.int64)
        self._arrays = (
            self.requests,
            prefixes.nodes,
            self.workers,
            slots,
            np.zeros((n, _buckets(blocks)), np.int32),
            np.zeros((n, shape.max_num_seqs), np.int32),
            self._limits,
            coefficients,
            self._words,
            self._events,
            self._reports,
            self._items,
            self._cursors,
        )

    def listen(self) -> None:
        """From now on cache events are kept for `take_events`."""
        self._cursors[at.IS_TOLD] = 1

    def submit(self, request: int, worker: int, now_ns: int) -> None:
        """The request reaches this worker's queue."""
        self._kernels.submit(self.requests, self.workers[worker], request, worker, now_ns)

    def advance(self, until_ns: int, *, stops: bool = True) -> int:
        """Lets time pass up to `until_ns`; returns the time reached.

        Passes that would begin then have not begun: what arrives at that time still joins them.
        With `stops`, only to the first time with something in `take_reports`.
        """
        reached = self._kernels.advance(self.now_ns, until_ns, int(stops), *self._arrays)
        # Negative: a buffer is full before anything of this time began.
        self.now_ns = reached if reached >= 0 else -1 - reached
        return self.now_ns

    def take_reports(self) -> list[PassReport]:
        """What happened since the last call, in order of time and worker."""
        n = int(self._cursors[at.N_REPORTS])
        if n == 0:
            return []
        items = self._items[: self._cursors[at.N_ITEMS]].tolist()
        reports = []
        for row in self._reports[:n].tolist():
            first = row[at.R_FIRST_ITEM]
            mine = items[first : first + row[at.R_N_ITEMS]]
            reports.append(
                PassReport(
                    row[at.R_END],
                    row[at.R_WORKER],
                    row[at.R_PASS_NS],
                    row[at.R_PREFILL],
                    row[at.R_DECODES],
                    tuple((request, kind) for request, kind in mine),
                    row[at.R_DECODE_PASSES],
                    row[at.R_DECODE_NS],
                    row[at.R_DECODED],
                )
            )
        self._cursors[at.N_REPORTS] = self._cursors[at.N_ITEMS] = 0
        return reports

    def take_events(self) -> Iterator[tuple[int, int, Keys]]:
        """(time, worker, packed words as `radix.layout` says) of each pass that changed a cache."""
        n = int(self._cursors[at.N_EVENTS])
        if n == 0:
            return iter(())
        rows = self._events[:n].tolist()
        words = self._words[: self._cursors[at.N_WORDS]].copy()
        self._cursors[at.N_EVENTS] = self._cursors[at.N_WORDS] = 0
        return ((ns, worker, words[start:end]) for ns, worker, start, end in rows)

    @property
    def n_unique(self) -> int:
        """Output blocks made so far: their nodes follow those of the prompts."""
        return int(self._cursors[at.N_UNIQUE])

    @property
    def is_idle(self) -> bool:
        """Nobody waits or runs anywhere."""
        work = self.workers[:, at.N_RUNNING] + self.workers[:, at.N_WAITING]
        return not work.any()


def _new_requests(trace: Trace, prefixes: Prefixes) -> NDArray[np.int64]:
    requests = np.zeros((len(trace), at.REQUEST_LEN), np.int64)
    requests[:, at.PROMPT] = trace.input_tokens
    requests[:, at.OUTPUT] = trace.output_tokens
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
    return requests


def _refuse_impossible(requests: Numbers, shape: FleetShape) -> None:
    most = requests[:, at.PROMPT] + requests[:, at.OUTPUT] - 1
    wanted = -(-most // shape.block_size) + shape.watermark_blocks
    too_long = int((wanted > shape.kv_blocks).sum())
    if too_long:
        longest = int(wanted.max())
        raise InvalidShape(
            f"{too_long} requests do not fit a worker of {shape.kv_blocks} blocks of"
            f" {shape.block_size} tokens; the longest needs {longest}: ask for larger workers"
        )


def _buckets(blocks: int) -> int:
    size = 16
    while size < 3 * blocks:
        size *= 2
    return size
