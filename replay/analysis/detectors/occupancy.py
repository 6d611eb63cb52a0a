"""Occupancy: who was where when, and how long prompts take. Columns of one run, prepared once.

Pure. Only requests that were answered count. A request is at its worker from the decision to its
end; its prompt is pending there until the first token. Times are ns, as in `RunResult`.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.arrays import Floats
from radixroute.replay.results import RunResult

# Idle for less is the time between two things that belong together.
LEAST_IDLE_NS = 5_000_000
# Prompts that were alone with their worker, below which nothing is said of how long any takes.
ENOUGH_ALONE = 20
# So many mean prompts of the fleet are in each worker's ratio: a few of its own say little.
LEAN = 8.0


@dataclass(frozen=True, slots=True)
class Line:
    """A prompt takes `base_ns + each_ns x` for x computed tokens, from its start to first token."""

    base_ns: float
    each_ns: float

    def of(self, tokens: Floats | Numbers) -> Floats:
        return np.asarray(self.base_ns + self.each_ns * tokens, np.float64)


@dataclass(frozen=True, eq=False)
class Occupancy:
    """Answered requests of a run in order of decision; arrays of shape (answered,)."""

    n_workers: int
    request: Numbers  # in the trace
    worker: Numbers
    arrival_ns: Numbers
    decided_ns: Numbers
    start_ns: Numbers  # admitted, or decided where that is not known
    first_ns: Numbers
    finish_ns: Numbers
    input_tokens: Numbers
    computed_tokens: Numbers
    output_tokens: Numbers

    @classmethod
    def of(cls, run: RunResult) -> "Occupancy":
        answered = (run.worker >= 0) & (run.decided_ns >= 0) & (run.first_ns >= 0)
        kept = np.flatnonzero(answered & (run.finish_ns >= 0))
        kept = kept[np.argsort(run.decided_ns[kept], kind="stable")]
        admitted = run.admitted_ns[kept]
        return cls(
            n_workers=run.workers,
            request=kept,
            worker=run.worker[kept],
            arrival_ns=run.arrival_ns[kept],
            decided_ns=run.decided_ns[kept],
            start_ns=np.where(admitted >= 0, admitted, run.decided_ns[kept]),
            first_ns=run.first_ns[kept],
            finish_ns=run.finish_ns[kept],
            input_tokens=run.trace.input_tokens[kept],
            computed_tokens=(run.trace.input_tokens - run.cached_tokens)[kept],
            output_tokens=run.trace.output_tokens[kept],
        )

    def __len__(self) -> int:
        return len(self.request)

    @cached_property
    def is_alone(self) -> NDArray[np.bool_]:
        """No other prompt was pending at the worker from the decision to the first token."""
        alone = np.zeros(len(self), np.bool_)
        for worker in range(self.n_workers):
            mine = np.flatnonzero(self.worker == worker)
            if not len(mine):
                continue
            decided, first = self.decided_ns[mine], self.first_ns[mine]
            before = np.concatenate([[-1], np.maximum.accumulate(first)[:-1]])
            behind = np.concatenate([decided[1:], [np.iinfo(np.int64).max]])
            alone[mine] = (before <= decided) & (behind >= first)
        return alone

    @cached_property
    def line(self) -> Line | None:
        """Of all workers, least squares over prompts that were alone. None: too few, or alike."""
        alone = self.is_alone
        if alone.sum() < ENOUGH_ALONE:
            return None
        tokens = self.computed_tokens[alone].astype(np.float64)
        took = (self.first_ns - self.start_ns)[alone].astype(np.float64)
        spread = tokens - tokens.mean()
        if not (spread**2).sum():
            return None
        each = max(0.0, float((spread * took).sum() / (spread**2).sum()))
        return Line(max(0.0, float(took.mean() - each * tokens.mean())), each)

    def slowness(self, since_ns: int = 0, lean: float = LEAN) -> Floats | None:
        """Times that each worker's prompts took of what the line says, of those decided from then
        on, with `lean` of the fleet's mean; shape (workers,). None as `line`. Who was asked little
        counts as like the others."""
        if self.line is None:
            return None
        alone = self.is_alone & (self.decided_ns >= since_ns)
        if not alone.any():
            return np.ones(self.n_workers)
        worker = self.worker[alone]
        took = (self.first_ns - self.start_ns)[alone].astype(np.float64)
        expected = self.line.of(self.computed_tokens[alone])
        much = lean * float(expected.mean())
        own = np.bincount(worker, took, self.n_workers) + much
        return np.asarray(own / (np.bincount(worker, expected, self.n_workers) + much), np.float64)

    @cached_property
    def idle(self) -> "Spans":
        """When any worker had nothing at all, from the first arrival to the last decision."""
        if not len(self):
            return Spans(np.empty(0, np.int64), np.empty(0, np.int64))
        start, end = int(self.arrival_ns.min()), int(self.decided_ns.max())
        found = [_gaps(self, worker, start, end) for worker in range(self.n_workers)]
        return merged(
            np.concatenate([gaps.start for gaps in found]),
            np.concatenate([gaps.end for gaps in found]),
        )

    def answering(self, worker: int | None, moments: Numbers) -> Floats:
        """Time that requests spent answering, summed until each moment; None: of all workers."""
        mine = slice(None) if worker is None else self.worker == worker
        return time_since(self.first_ns[mine], moments) - time_since(self.finish_ns[mine], moments)


@dataclass(frozen=True, slots=True, eq=False)
class Spans:
    """Spans of time that do not overlap, in order; arrays of shape (spans,)."""

    start: Numbers
    end: Numbers

    def within(self, start: Numbers, end: Numbers) -> Floats:
        """How much of these spans lies between each start and end."""
        return self._until(end) - self._until(start)

    def first_moment(self, start: Numbers) -> Numbers:
        """The first moment of any span from each start on; the largest number where none is."""
        place = np.searchsorted(self.end, start + LEAST_IDLE_NS)
        never = np.iinfo(np.int64).max
        begins = np.concatenate([self.start, [never]])[place]
        return np.asarray(np.maximum(begins, start), np.int64)

    def _until(self, moments: Numbers) -> Floats:
        before = np.concatenate([[0], np.cumsum(self.end - self.start)])
        place = np.searchsorted(self.start, moments, "right")
        inside = np.concatenate([[0], self.end])[place] - moments
        return np.asarray(before[place] - np.maximum(0, inside), np.float64)


def merged(start: Numbers, end: Numbers) -> Spans:
    """Spans that may overlap, as spans that do not."""
    order = np.argsort(start, kind="stable")
    start, end = start[order], end[order]
    if not len(start):
        return Spans(start, end)
    reach = np.maximum.accumulate(end)
    begins = np.concatenate([[True], start[1:] > reach[:-1]])
    last = np.concatenate([np.flatnonzero(begins)[1:] - 1, [len(start) - 1]])
    return Spans(start[begins], reach[last])


def time_since(moments: Numbers, at: Numbers) -> Floats:
    """At each of `at`: the time since each of the moments before it, summed."""
    moments = np.sort(moments)
    before = np.searchsorted(moments, at)
    sums = np.concatenate([[0.0], np.cumsum(moments, dtype=np.float64)])
    return np.asarray(before * at.astype(np.float64) - sums[before], np.float64)


def _gaps(occupancy: Occupancy, worker: int, start: int, end: int) -> Spans:
    """When one worker had nothing for long enough."""
    mine = occupancy.worker == worker
    busy = merged(occupancy.decided_ns[mine], occupancy.finish_ns[mine])
    begins = np.concatenate([[start], busy.end])
    ends = np.concatenate([busy.start, [end]])
    long = ends - begins >= LEAST_IDLE_NS
    return Spans(begins[long], ends[long])
