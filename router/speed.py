"""Speed: how long a worker's engine steps take, learned from the timings it reports.

Owns the estimates. A step is base + per_decode * decoding + per_prefill * prompt tokens: the first
two from steps without prompt tokens (least squares with forgetting), the third from what is left
of the others. Priors make the first decisions sane. Decisions read the estimates as columns. Pure
arithmetic; `RouterCore` calls.
"""

from math import isclose
from typing import NamedTuple

import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.errors import BrokenInvariant
from radixroute.router.slots import SlotList, Slots, Table

# Priors: a small model on one CPU core. One prompt is enough to overrule them.
PRIOR_MS_PER_PREFILL_TOKEN = 0.5
PRIOR_STEP_BASE_MS = 10.0
PRIOR_MS_PER_DECODE = 1.0
PRIOR_PREFILL_TOKENS = 128.0  # weight of the prior, in observed tokens
PRIOR_STEPS = 4.0  # weight of the prior, in observed steps
PRIOR_OUTPUT_TOKENS = 64.0
# Forgetting: some 4,000 prompt tokens or 200 steps back weigh 1/e; workers change with batch mix.
PREFILL_MEMORY_TOKENS = 4096.0
STEP_MEMORY = 200.0
OUTPUT_MEMORY = 50.0  # requests
_HAS_METER = 3  # the row after those of `Speed`


class Speed(NamedTuple):
    """What a worker's time costs, in milliseconds."""

    ms_per_prefill_token: float = PRIOR_MS_PER_PREFILL_TOKEN
    step_base_ms: float = PRIOR_STEP_BASE_MS
    ms_per_decode: float = PRIOR_MS_PER_DECODE

    def step_ms(self, decoding: int) -> float:
        """A step that only decodes this many requests."""
        return self.step_base_ms + self.ms_per_decode * decoding


class SpeedMeter:
    """One worker's learned speed."""

    def __init__(self) -> None:
        self._prefill_tokens = PRIOR_PREFILL_TOKENS
        self._prefill_ms = PRIOR_PREFILL_TOKENS * PRIOR_MS_PER_PREFILL_TOKEN
        # Sums of weights, x, x*x, y, x*y over decode steps; x: decoding, y: ms. Two prior points,
        # at 0 and at 2 requests, fix the line until steps of different widths were seen.
        low, high = PRIOR_STEP_BASE_MS, PRIOR_STEP_BASE_MS + 2 * PRIOR_MS_PER_DECODE
        half = PRIOR_STEPS / 2
        self._sums = [PRIOR_STEPS, half * 2, half * 4, half * (low + high), half * 2 * high]
        self.speed = Speed()

    def observe(self, *, step_ms: float, prefill_tokens: int, decode_tokens: int) -> None:
        if step_ms <= 0 or prefill_tokens + decode_tokens <= 0:
            return
        if prefill_tokens:
            self._observe_prefill(step_ms, prefill_tokens, decode_tokens)
        else:
            self._observe_decode(step_ms, float(decode_tokens))
        self.speed = self._solve()

    def _observe_prefill(self, step_ms: float, prefill_tokens: int, decode_tokens: int) -> None:
        keep = max(0.0, 1.0 - prefill_tokens / PREFILL_MEMORY_TOKENS)
        spent = max(0.0, step_ms - self.speed.step_ms(decode_tokens))
        self._prefill_tokens = self._prefill_tokens * keep + prefill_tokens
        self._prefill_ms = self._prefill_ms * keep + spent

    def _observe_decode(self, step_ms: float, decoding: float) -> None:
        keep = 1.0 - 1.0 / STEP_MEMORY
        point = (1.0, decoding, decoding * decoding, step_ms, decoding * step_ms)
        self._sums = [old * keep + new for old, new in zip(self._sums, point, strict=True)]

    def _solve(self) -> Speed:
        weight, x, xx, y, xy = self._sums
        spread = weight * xx - x * x
        slope = 0.0 if spread <= 1e-9 * weight * weight else (weight * xy - x * y) / spread
        slope = min(max(slope, 0.0), y / x if x > 0 else 0.0)
        base = max(0.0, (y - slope * x) / weight)
        # Floors: a free token would make the score blind to prompt length.
        per_token = max(self._prefill_ms / self._prefill_tokens, 1e-4)
        return Speed(per_token, base, slope)


class SpeedBook:
    """Speeds of all workers, and how long answers are."""

    def __init__(self, slots: Slots) -> None:
        self._slots = slots
        self._columns = slots.columns(*Speed(), 0.0)  # and whether it has a meter
        self._meters: dict[WorkerId, SpeedMeter] = {}
        self._n_spread = 0  # slots there were when those without a meter got the mean of now
        self._output_tokens = PRIOR_OUTPUT_TOKENS

    def speed(self, worker_id: WorkerId) -> Speed:
        meter = self._meters.get(worker_id)
        return meter.speed if meter is not None else self._fleet_speed()

    def take(self, slots: SlotList) -> Table:
        """The speeds of these workers, a row for each field of `Speed`; O(workers)."""
        taken = self._columns.take(slots)
        if self._n_spread < self._columns.capacity and not taken[_HAS_METER].all():
            self._spread_mean()
            taken = self._columns.take(slots)
        return taken[:_HAS_METER]

    def observe(
        self, worker_id: WorkerId, *, step_ms: float, prefill_tokens: int, decode_tokens: int
    ) -> None:
        meter = self._meters.setdefault(worker_id, SpeedMeter())
        meter.observe(step_ms=step_ms, prefill_tokens=prefill_tokens, decode_tokens=decode_tokens)
        self._columns.write(self._slots.of(worker_id), *meter.speed, 1.0)
        self._n_spread = 0

    def forget(self, worker_id: WorkerId) -> None:
        """Call it while the worker still has its slot."""
        if self._meters.pop(worker_id, None) is not None:
            self._columns.unset(self._slots.of(worker_id))
            self._n_spread = 0

    def answered(self, output_tokens: int) -> None:
        self._output_tokens += (output_tokens - self._output_tokens) / OUTPUT_MEMORY

    def expected_output(self, max_tokens: int) -> float:
        return min(self._output_tokens, float(max_tokens))

    def check(self) -> None:
        self._spread_mean()
        mean = self._fleet_speed()
        metered = {self._slots.of(w): meter.speed for w, meter in self._meters.items()}
        for slot in range(self._columns.capacity):
            wanted = (*metered.get(slot, mean), float(slot in metered))
            pairs = zip(self._columns.of(slot), wanted, strict=True)
            if not all(isclose(got, want) for got, want in pairs):
                raise BrokenInvariant(f"slot {slot}: the columns differ from the meters")

    def _spread_mean(self) -> None:
        """Into the slots without a meter. O(workers)."""
        self._n_spread = self._columns.capacity
        table = self._columns.table
        has_meter = table[_HAS_METER] > 0
        speeds = table[:_HAS_METER]
        mean = speeds[:, has_meter].mean(axis=1) if has_meter.any() else np.array(Speed())
        speeds[:, ~has_meter] = mean[:, None]

    def _fleet_speed(self) -> Speed:
        """A worker nobody has seen yet is thought to be like the others."""
        speeds = [meter.speed for meter in self._meters.values()]
        if not speeds:
            return Speed()
        n = len(speeds)
        return Speed(
            sum(s.ms_per_prefill_token for s in speeds) / n,
            sum(s.step_base_ms for s in speeds) / n,
            sum(s.ms_per_decode for s in speeds) / n,
        )
