"""Speed: how long a worker's engine steps take, learned from the timings it reports.

Owns the estimates. A step takes a fixed time and a time for each prompt token if it computes prompt
tokens, and a fixed time and a time for each request that decodes in it: two straight lines, each
leaning on the fleet's (`speed_kernels`). Priors make the first decisions sane. Decisions read the
estimates as columns. No clock; `RouterCore` calls.
"""

from collections.abc import Sequence
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import ColumnList, Numbers, WorkerColumns

# Priors: a small model on one CPU core. One prompt is enough to overrule them.
PRIOR_PREFILL_BASE_MS = 5.0
PRIOR_MS_PER_PREFILL_TOKEN = 0.5
PRIOR_STEP_BASE_MS = 10.0
PRIOR_MS_PER_DECODE = 1.0
PRIOR_OUTPUT_TOKENS = 64.0
# Points of the fleet's lines before the first step: weight in steps, x, y. Decode has two at 0 and
# 2 requests, which fix its line until widths of both were seen.
_PRIOR_PREFILL = (
    (0.25, 0.0, PRIOR_PREFILL_BASE_MS),
    (0.25, 64.0, PRIOR_PREFILL_BASE_MS + 64.0 * PRIOR_MS_PER_PREFILL_TOKEN),
)
_PRIOR_DECODE = (
    (2.0, 0.0, PRIOR_STEP_BASE_MS),
    (2.0, 2.0, PRIOR_STEP_BASE_MS + 2.0 * PRIOR_MS_PER_DECODE),
)
OUTPUT_MEMORY = 50.0  # requests
LEAST_SHARE = 0.25  # of what was learned: no prompt takes less


class Speed(NamedTuple):
    """What a worker's time costs, in milliseconds."""

    prefill_base_ms: float = PRIOR_PREFILL_BASE_MS
    ms_per_prefill_token: float = PRIOR_MS_PER_PREFILL_TOKEN
    step_base_ms: float = PRIOR_STEP_BASE_MS
    ms_per_decode: float = PRIOR_MS_PER_DECODE
    drift: float = 1.0  # prompts really take so many times what this makes of them

    def prefill_ms(self, tokens: float) -> float:
        """A step that computes only so many prompt tokens."""
        return self.prefill_base_ms + self.ms_per_prefill_token * tokens

    def step_ms(self, decoding: float) -> float:
        """A step that only decodes this many requests."""
        return self.step_base_ms + self.ms_per_decode * decoding if decoding else 0.0


class SpeedBook:
    """Speeds of all workers, and how long answers are."""

    def __init__(self, columns: WorkerColumns) -> None:
        at = kernels()
        self._columns = columns
        self._sums = columns.table(*[0.0] * at.N_SUMS)
        # Beside the speed the end of the last step.
        self._table = columns.table(*Speed(), 0.0)
        self._solved = self._table.capacity  # columns there were when all were solved
        self._fleet = np.zeros((at.N_FLEET, 1))
        for first, points in ((at.PREFILL, _PRIOR_PREFILL), (at.DECODE, _PRIOR_DECODE)):
            for weight, x, y in points:
                self._fleet[first : first + 5, 0] += weight * np.array((1.0, x, x * x, y, x * y))
        self._solve_all()
        self._output_tokens = PRIOR_OUTPUT_TOKENS

    def speed(self, worker_id: WorkerId) -> Speed:
        """Of a listed worker: as learned by now."""
        self._fill_new()
        return Speed(*self._table.of(self._columns.of(worker_id))[: len(Speed._fields)])

    def least_prefill_ms(self, tokens: int) -> float:
        """Computing so many prompt tokens on the fastest worker takes at least this: a quarter of
        what was learned, and 0 while any worker is hardly known."""
        at, columns = kernels(), self._columns.given
        if not columns or self._sums.numbers[at.PREFILL, columns].min() < at.LEAN:
            return 0.0
        lines = self._table.numbers[:, columns]
        fastest = (lines[at.BASE] + lines[at.BASE + 1] * tokens).min()
        return LEAST_SHARE * float(fastest)

    def now(self) -> Numbers:
        """Of every column a row for each field of `Speed`, and when the last step ended (ns). To
        read at once: it changes, or is another one, any time."""
        self._fill_new()
        return self._table.numbers

    def observe(
        self,
        worker_id: WorkerId,
        *,
        step_ms: float,
        prefill_tokens: int,
        decode_tokens: float,
        now_ns: int,
        steps: int = 1,
    ) -> None:
        """One step of this worker, which ended now; or `steps` that only decoded, with their mean
        time and requests."""
        column = self._columns.of(worker_id)
        if step_ms <= 0 or prefill_tokens + decode_tokens <= 0:
            return
        self._fill_new()
        observe, _ = _entry_points()
        observe(
            self._sums.numbers,
            self._fleet,
            self._table.numbers,
            column,
            float(step_ms),
            float(prefill_tokens),
            float(decode_tokens),
            float(steps),
            float(now_ns),
        )

    def timed(
        self, worker_id: WorkerId, *, expected_ms: float, took_ms: float, now_ns: int
    ) -> None:
        """From dispatch to first token of a prompt that was alone with its worker."""
        column = self._columns.of(worker_id)
        _, timed = _entry_points()
        numbers = (expected_ms, took_ms, float(now_ns))
        timed(self._sums.numbers, self._fleet, self._table.numbers, column, *numbers)

    def columns(self, worker_ids: Sequence[WorkerId]) -> ColumnList:
        """Where their numbers stand while they are listed."""
        return np.array([self._columns.of(worker_id) for worker_id in worker_ids], np.intp)

    def stepped(self, columns: ColumnList, end_ns: NDArray[np.int64]) -> None:
        """Steps ended of which nothing else is reported."""
        self._table.numbers[kernels().LAST_STEP_NS, columns] = end_ns

    def forget(self, worker_id: WorkerId) -> None:
        """Call it while the worker still has its column."""
        column = self._columns.of(worker_id)
        self._sums.unset(column)
        self._table.unset(column)
        self._solve_all()

    def answered(self, output_tokens: int) -> None:
        self._output_tokens += (output_tokens - self._output_tokens) / OUTPUT_MEMORY

    def expected_output(self, max_tokens: int) -> float:
        return min(self._output_tokens, float(max_tokens))

    def check(self) -> None:
        for numbers in (self._sums.numbers, self._fleet, self._table.numbers):
            if not np.isfinite(numbers).all() or (numbers < 0.0).any():
                raise BrokenInvariant("a learned speed is not a time")

    def _fill_new(self) -> None:
        """Columns made since all were solved hold priors still."""
        if self._solved != self._table.capacity:
            self._solve_all()

    def _solve_all(self) -> None:
        """Without letting time pass: what was seen is as old as it was."""
        kernels().solve_all(self._sums.numbers, self._fleet, self._table.numbers, 0.0)
        self._solved = self._table.capacity


@cache
def kernels() -> Any:
    """`speed_kernels`, at first use: numba takes 0.5 s to import."""
    from radixroute.router.workers import speed_kernels

    return speed_kernels


@cache
def _entry_points() -> tuple[Any, Any]:
    """Arguments always have the types of the signature, so nobody need find out what they are."""
    from radixroute.radix.jit import entry_point

    return entry_point(kernels().observe), entry_point(kernels().timed)
