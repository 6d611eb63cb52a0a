"""Speed: how long a worker's engine steps take, learned from the timings it reports.

Owns the estimates. A step takes a fixed time and a time for each prompt token if it computes prompt
tokens, and a fixed time and a time for each request that decodes in it: two straight lines, each
fitted by least squares with forgetting, the first to what the second leaves. Priors make the first
decisions sane. Decisions read the estimates as columns. Pure arithmetic; `RouterCore` calls.
"""

from collections.abc import Sequence
from math import isclose
from typing import NamedTuple

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
PRIOR_STEPS = 4.0  # weight of the prior, in observed steps
PRIOR_PREFILLS = 0.5
PRIOR_OUTPUT_TOKENS = 64.0
# Forgetting: so many steps back weigh 1/e; workers change with batch mix. A step far from what was
# expected says that the worker has changed: then the past counts for little.
STEP_MEMORY = 200.0
SURPRISE = 0.2  # of the larger of both times
SURPRISED_MEMORY = 4.0
# What a step takes its worker reports; what a prompt takes we see ourselves.
DRIFT_MEMORY = 64.0  # prompts
PRIOR_DRIFT_MS = 500.0  # weight of the belief that there is none
# Where all chunks have one size nothing tells the fixed part of their time from the rest: a weak
# belief that it is a tenth.
ANCHOR_WEIGHT = 0.001
ANCHOR_SHARE = 0.1
OUTPUT_MEMORY = 50.0  # requests
LEAST_MS_PER_TOKEN = 1e-4  # a free token would make the score blind to prompt length
_LAST_STEP = 5  # the row after those of `Speed`
_HAS_METER = 6


class Speed(NamedTuple):
    """What a worker's time costs, in milliseconds."""

    prefill_base_ms: float = PRIOR_PREFILL_BASE_MS
    ms_per_prefill_token: float = PRIOR_MS_PER_PREFILL_TOKEN
    step_base_ms: float = PRIOR_STEP_BASE_MS
    ms_per_decode: float = PRIOR_MS_PER_DECODE
    drift: float = 1.0  # prompts really take so many times what this makes of them

    def step_ms(self, decoding: float) -> float:
        """A step that only decodes this many requests."""
        return self.step_base_ms + self.ms_per_decode * decoding if decoding else 0.0


class _Line:
    """y = base + slope x by least squares with forgetting; neither is ever negative."""

    __slots__ = ("_anchor", "_w", "_x", "_xx", "_xy", "_y", "base", "slope")

    def __init__(
        self, weight: float, points: tuple[tuple[float, float], ...], anchor: float
    ) -> None:
        self._anchor = anchor  # weight of the belief about the base
        self._w = self._x = self._xx = self._y = self._xy = 0.0
        for x, y in points:
            self._add(weight / len(points), x, y)
        self._solve()

    def observe(self, x: float, y: float, steps: float = 1.0) -> None:
        """`steps` observations of this kind at once."""
        expected = self.base + self.slope * x
        is_odd = abs(y - expected) > SURPRISE * max(y, expected)
        fade = 1.0 - 1.0 / (SURPRISED_MEMORY if is_odd else STEP_MEMORY)
        keep = fade**steps
        self._w *= keep
        self._x *= keep
        self._xx *= keep
        self._y *= keep
        self._xy *= keep
        self._add((1.0 - keep) / (1.0 - fade), x, y)
        self._solve()

    def _solve(self) -> None:
        anchor = self._anchor * self._w
        w, x = self._w + anchor, self._x
        y = self._y * (1.0 + self._anchor * ANCHOR_SHARE)
        spread = w * self._xx - x * x
        slope = 0.0 if spread <= 1e-9 * w * w else (w * self._xy - x * y) / spread
        self.slope = min(max(slope, 0.0), y / x if x > 0 else 0.0)
        self.base = max(0.0, (y - self.slope * x) / w)

    def _add(self, weight: float, x: float, y: float) -> None:
        self._w += weight
        self._x += weight * x
        self._xx += weight * x * x
        self._y += weight * y
        self._xy += weight * x * y


class SpeedMeter:
    """One worker's learned speed."""

    def __init__(self) -> None:
        base, each = PRIOR_PREFILL_BASE_MS, PRIOR_MS_PER_PREFILL_TOKEN
        points = ((0.0, base), (64.0, base + 64.0 * each))
        self._prefill = _Line(PRIOR_PREFILLS, points, ANCHOR_WEIGHT)
        # Two prior points, at 0 and at 2 requests, fix the line until widths of both were seen.
        base, each = PRIOR_STEP_BASE_MS, PRIOR_MS_PER_DECODE
        self._decode = _Line(PRIOR_STEPS, ((0.0, base), (2.0, base + 2.0 * each)), 0.0)
        # Prompts took so long, and reported steps made us expect so much: both fade.
        self._took_ms = self._expected_ms = PRIOR_DRIFT_MS
        self._speed: Speed | None = Speed()  # None: something was learned since somebody asked

    def timed(self, expected_ms: float, took_ms: float) -> None:
        """A prompt was alone with its worker for so long, dispatch to first token."""
        keep = 1.0 - 1.0 / DRIFT_MEMORY
        self._expected_ms = self._expected_ms * keep + expected_ms
        self._took_ms = self._took_ms * keep + took_ms
        self._speed = None

    @property
    def _drift(self) -> float:
        return min(max(self._took_ms / self._expected_ms, 0.25), 4.0)

    def observe(
        self, *, step_ms: float, prefill_tokens: int, decode_tokens: float, steps: int = 1
    ) -> None:
        """A step, or `steps` that only decoded, with their mean time and requests."""
        if step_ms <= 0 or prefill_tokens + decode_tokens <= 0:
            return
        if prefill_tokens:
            decode = (
                self._decode.base + self._decode.slope * decode_tokens if decode_tokens else 0.0
            )
            spent = max(0.0, step_ms - decode)
            self._prefill.observe(float(prefill_tokens), spent)
        else:
            self._decode.observe(float(decode_tokens), step_ms, steps)
        self._speed = None

    @property
    def speed(self) -> Speed:
        """As learned by now; steps come far more often than somebody asks."""
        if self._speed is None:
            prefill, decode = self._prefill, self._decode
            per_token = max(prefill.slope, LEAST_MS_PER_TOKEN)
            self._speed = Speed(prefill.base, per_token, decode.base, decode.slope, self._drift)
        return self._speed


class SpeedBook:
    """Speeds of all workers, and how long answers are."""

    def __init__(self, columns: WorkerColumns) -> None:
        self._columns = columns
        # Beside the speed the end of the last step, and whether it has a meter.
        self._table = columns.table(*Speed(), 0.0, 0.0)
        self._meters: dict[WorkerId, SpeedMeter] = {}
        self._unwritten: set[WorkerId] = set()  # meters that know more than the columns
        self._n_spread = 0  # columns there were when those without a meter got the mean of now
        self._output_tokens = PRIOR_OUTPUT_TOKENS

    def speed(self, worker_id: WorkerId) -> Speed:
        meter = self._meters.get(worker_id)
        return meter.speed if meter is not None else self._fleet_speed()

    def take(self, columns: ColumnList) -> Numbers:
        """Of these workers a row for each field of `Speed`, and when the last step ended (ns)."""
        self._write()
        taken = self._table.take(columns)
        if self._n_spread < self._table.capacity and not taken[_HAS_METER].all():
            self._spread_mean()
            taken = self._table.take(columns)
        return taken[:_HAS_METER]

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
        """One step of this worker, which ended now; or `steps` that only decoded."""
        meter = self._meters.get(worker_id)
        if meter is None:
            meter = self._meters[worker_id] = SpeedMeter()
        meter.observe(
            step_ms=step_ms,
            prefill_tokens=prefill_tokens,
            decode_tokens=decode_tokens,
            steps=steps,
        )
        self._table.numbers[_LAST_STEP, self._columns.of(worker_id)] = now_ns
        self._unwritten.add(worker_id)

    def timed(self, worker_id: WorkerId, *, expected_ms: float, took_ms: float) -> None:
        """From dispatch to first token of a prompt that was alone with its worker."""
        meter = self._meters.get(worker_id)
        if meter is not None:
            meter.timed(expected_ms, took_ms)
            self._unwritten.add(worker_id)

    def columns(self, worker_ids: Sequence[WorkerId]) -> ColumnList:
        """Where their numbers stand while they are listed."""
        return np.array([self._columns.of(worker_id) for worker_id in worker_ids], np.intp)

    def stepped(self, columns: ColumnList, end_ns: NDArray[np.int64]) -> None:
        """Steps ended of which nothing else is reported."""
        self._table.numbers[_LAST_STEP, columns] = end_ns

    def forget(self, worker_id: WorkerId) -> None:
        """Call it while the worker still has its column."""
        self._meters.pop(worker_id, None)
        self._unwritten.discard(worker_id)
        self._table.unset(self._columns.of(worker_id))
        self._n_spread = 0

    def answered(self, output_tokens: int) -> None:
        self._output_tokens += (output_tokens - self._output_tokens) / OUTPUT_MEMORY

    def expected_output(self, max_tokens: int) -> float:
        return min(self._output_tokens, float(max_tokens))

    def check(self) -> None:
        self._write()
        self._spread_mean()
        mean = self._fleet_speed()
        metered = {self._columns.of(w): meter.speed for w, meter in self._meters.items()}
        for column in range(self._table.capacity):
            values = self._table.of(column)
            wanted = (*metered.get(column, mean), values[_LAST_STEP], float(column in metered))
            pairs = zip(values, wanted, strict=True)
            if not all(isclose(got, want) for got, want in pairs):
                raise BrokenInvariant(f"column {column}: the columns differ from the meters")

    def _write(self) -> None:
        """What was learned since somebody asked, into the columns. O(workers with news)."""
        if not self._unwritten:
            return
        table = self._table.numbers
        for worker_id in self._unwritten:
            column = self._columns.of(worker_id)
            self._table.write(
                column, *self._meters[worker_id].speed, table[_LAST_STEP, column], 1.0
            )
        self._unwritten.clear()
        self._n_spread = 0

    def _spread_mean(self) -> None:
        """Into the columns without a meter. O(workers)."""
        self._n_spread = self._table.capacity
        table = self._table.numbers
        has_meter = table[_HAS_METER] > 0
        speeds = table[:_LAST_STEP]
        mean = speeds[:, has_meter].mean(axis=1) if has_meter.any() else np.array(Speed())
        speeds[:, ~has_meter] = mean[:, None]

    def _fleet_speed(self) -> Speed:
        """A worker nobody has seen yet is thought to be like the others."""
        speeds = [meter.speed for meter in self._meters.values()]
        if not speeds:
            return Speed()
        return Speed(*(sum(column) / len(speeds) for column in zip(*speeds, strict=True)))
