"""Kernels of learned speeds: fading sums of steps, and the straight lines through them.

Two lines a worker: what prompt tokens take in a step, and what decoding requests do. A line is a
least-squares fit of its worker's own steps, leaning on the fleet's line by `LEAN` steps: few or
equal steps leave the fleet's shape at the worker's own scale, many its own line. Without it a
worker whose first prompts were short was left with a slope many times too steep, was not asked
again, and so never learned better. Pure arithmetic; importing this module compiles or loads from
the cache (`radix.jit`).
"""

from typing import Final, TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.jit import helper, kernel, rare_helper

Floats: TypeAlias = NDArray[np.float64]

# Rows of sums. Of each line: weights, x, x squared, y, x y.
PREFILL: Final = 0
DECODE: Final = 5
TOOK_MS: Final = 10  # prompts alone with their worker, dispatch to first token
EXPECTED_MS: Final = 11  # what their steps made us expect
FADED_NS: Final = 12  # until when time has been taken off
SEEN_NS: Final = 13  # when it last computed a prompt as fast as was thought
SLOWER: Final = 14  # times the fleet's: the last prompt step, if it took far more than was thought
FASTER: Final = 15  # or far less; 0: it did not
N_SUMS: Final = 16
# The fleet has both lines in its one column, and its steps since all workers were solved.
NEWS: Final = 10
N_FLEET: Final = 11

# Rows of the table that decisions read.
BASE: Final = 0  # of the prefill line; the slope follows, then the decode line's two
DRIFT: Final = 4
LAST_STEP_NS: Final = 5

# In steps: so much of the fleet's line is in each worker's. From 4 to 32 decide alike.
LEAN: Final = 8.0
# What the fleet learns reaches those that are not asked each so many steps.
SOLVE_ALL_AFTER: Final = 8.0
# Forgetting: so many steps back weigh 1/e; workers change with batch mix. A step far from what was
# expected says that the worker has changed: then the past counts for little.
STEP_MEMORY: Final = 200.0
SURPRISE: Final = 0.2  # of the larger of both times
SURPRISED_MEMORY: Final = 4.0
# Two prompt steps in a row that are odd to one side, and equally so, are no chance: it has another
# speed. Then it counts as having done so many steps, at most, of the fleet's shape at that speed.
SURE_MEMORY: Final = 32.0
MOST_TIMES: Final = 16.0
FLEET_MEMORY: Final = 400.0
# And so long ago does.
MEMORY_NS: Final = 120e9
# Who was seen to be slow is asked no more while others cope, and could recover unseen. After some
# time without a prompt it is thought faster, and ever more so, until it is asked again: first by
# whoever has least to lose. A step as slow as before ends that at once.
DOUBT_AFTER_NS: Final = 20e9
DOUBT_NS: Final = 25e9  # from there until it is thought as fast as the fleet
DOUBTED: Final = 1.25  # times slower than the fleet, or more
LEAST_DOUBTED: Final = 0.5  # of the fleet's time: no faster is anybody thought
DRIFT_MEMORY: Final = 64.0  # prompts
# Weight of the belief that prompts take what their steps do.
NO_DRIFT_MS: Final = 500.0
MOST_DRIFT: Final = 4.0
# Where all chunks have one size nothing tells the fixed part of their time from the rest: a weak
# belief that it is a tenth.
ANCHOR_WEIGHT: Final = 0.001
ANCHOR_SHARE: Final = 0.1
LEAST_MS_PER_TOKEN: Final = 1e-4  # a free token would make the score blind to prompt length


@helper
def _fit(w: float, x: float, xx: float, y: float, xy: float, anchor: float) -> tuple[float, float]:
    """Base and slope, neither ever negative; `anchor`: weight of the belief about the base."""
    y *= 1.0 + anchor * ANCHOR_SHARE
    w *= 1.0 + anchor
    spread = w * xx - x * x
    slope = 0.0 if spread <= 1e-9 * w * w else (w * xy - x * y) / spread
    slope = min(max(slope, 0.0), y / x if x > 0.0 else 0.0)
    return max(0.0, (y - slope * x) / w), slope


@helper
def _solve_line(
    sums: Floats, column: int, first: int, fleet: Floats, anchor: float, doubt: float
) -> tuple[float, float]:
    """Base and slope of one worker's line, whose five sums begin at row `first`. `doubt`: how far
    from its own towards the fleet's, if it is slower."""
    lean = LEAN / fleet[first, 0]
    own_w, own_x, own_y = sums[first, column], sums[first + 1, column], sums[first + 3, column]
    base, slope = _fit(
        fleet[first, 0],
        fleet[first + 1, 0],
        fleet[first + 2, 0],
        fleet[first + 3, 0],
        fleet[first + 4, 0],
        anchor,
    )
    usual = lean * fleet[first + 3, 0]
    times = (own_y + usual) / (base * own_w + slope * own_x + usual)  # slower than the fleet
    own_base, own_slope = _fit(
        own_w + lean * fleet[first, 0],
        own_x + lean * fleet[first + 1, 0],
        sums[first + 2, column] + lean * fleet[first + 2, 0],
        own_y + lean * times * fleet[first + 3, 0],
        sums[first + 4, column] + lean * times * fleet[first + 4, 0],
        anchor,
    )
    if doubt > 0.0 and times >= DOUBTED:
        own_base = max(LEAST_DOUBTED * base, own_base + doubt * (base - own_base))
        own_slope = max(LEAST_DOUBTED * slope, own_slope + doubt * (slope - own_slope))
    return own_base, own_slope


@rare_helper
def _solve_worker(sums: Floats, fleet: Floats, table: Floats, column: int) -> None:
    unseen_ns = sums[FADED_NS, column] - sums[SEEN_NS, column]
    doubt = max(0.0, (unseen_ns - DOUBT_AFTER_NS) / DOUBT_NS)
    base, slope = _solve_line(sums, column, PREFILL, fleet, ANCHOR_WEIGHT, doubt)
    table[BASE, column], table[BASE + 1, column] = base, max(slope, LEAST_MS_PER_TOKEN)
    base, slope = _solve_line(sums, column, DECODE, fleet, 0.0, 0.0)
    table[BASE + 2, column], table[BASE + 3, column] = base, slope
    drift = (sums[TOOK_MS, column] + NO_DRIFT_MS) / (sums[EXPECTED_MS, column] + NO_DRIFT_MS)
    table[DRIFT, column] = min(max(drift, 1.0 / MOST_DRIFT), MOST_DRIFT)


@helper
def _expected(sums: Floats, column: int, first: int, x: float) -> float:
    """By the worker's own steps: the fleet's would hide that it changed. 0: too few."""
    own_w = sums[first, column]
    if own_w < 1.0:
        return 0.0
    base, slope = _fit(
        own_w,
        sums[first + 1, column],
        sums[first + 2, column],
        sums[first + 3, column],
        sums[first + 4, column],
        ANCHOR_WEIGHT,
    )
    return base + slope * x


@helper
def _is_odd(expected: float, y: float) -> bool:
    return expected > 0.0 and abs(y - expected) > SURPRISE * max(y, expected)


@helper
def _judge_prompt(
    sums: Floats, fleet: Floats, column: int, x: float, y: float, expected: float, now_ns: float
) -> None:
    """One prompt step against what was thought; the second odd one changes what went before."""
    if y <= 0.0:  # what decodes beside it was thought to take all of the step: it tells nothing
        return
    if not _is_odd(expected, y):
        sums[SEEN_NS, column] = now_ns
        sums[SLOWER, column] = sums[FASTER, column] = 0.0
        return
    row, other = (SLOWER, FASTER) if y > expected else (FASTER, SLOWER)
    base, slope = _fit(
        fleet[PREFILL, 0],
        fleet[PREFILL + 1, 0],
        fleet[PREFILL + 2, 0],
        fleet[PREFILL + 3, 0],
        fleet[PREFILL + 4, 0],
        ANCHOR_WEIGHT,
    )
    times, before = y / (base + slope * x), sums[row, column]
    sums[row, column], sums[other, column] = times, 0.0
    if before == 0.0 or _is_odd(before, times):  # one speed makes both equally slow
        return
    sums[row, column] = 0.0
    times = min(max(0.5 * (before + times), 1.0 / MOST_TIMES), MOST_TIMES)
    weight = min(sums[PREFILL, column], SURE_MEMORY) / fleet[PREFILL, 0]
    for i in range(5):
        of_fleet = fleet[PREFILL + i, 0] * (times if i >= 3 else 1.0)
        sums[PREFILL + i, column] = weight * of_fleet


@helper
def _elapse(sums: Floats, column: int, now_ns: float) -> None:
    """What a worker was seen to do long ago counts less."""
    passed_ns = now_ns - sums[FADED_NS, column]
    if passed_ns > 0.0:
        keep = np.exp(-passed_ns / MEMORY_NS)
        for row in range(FADED_NS):
            sums[row, column] *= keep
        sums[FADED_NS, column] = now_ns


@helper
def _add(
    sums: Floats, column: int, first: int, x: float, y: float, steps: float, memory: float
) -> None:
    """So many equal steps at once, each of which fades those before it."""
    fade = 1.0 - 1.0 / memory
    keep = fade**steps
    weight = (1.0 - keep) / (1.0 - fade)
    for row in range(first, first + 5):
        sums[row, column] *= keep
    sums[first, column] += weight
    sums[first + 1, column] += weight * x
    sums[first + 2, column] += weight * x * x
    sums[first + 3, column] += weight * y
    sums[first + 4, column] += weight * x * y


@rare_helper
def _solve_all(sums: Floats, fleet: Floats, table: Floats, now_ns: float) -> None:
    for column in range(sums.shape[1]):
        _elapse(sums, column, now_ns)
        _solve_worker(sums, fleet, table, column)
    fleet[NEWS, 0] = 0.0


@kernel("void(float64[:, ::1], float64[:, ::1], float64[:, ::1], float64)")
def solve_all(sums: Floats, fleet: Floats, table: Floats, now_ns: float) -> None:
    """Every column, those of nobody too. O(columns)."""
    _solve_all(sums, fleet, table, now_ns)


@kernel(
    "void(float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, float64, float64, float64,"
    " float64, float64)"
)
def observe(
    sums: Floats,
    fleet: Floats,
    table: Floats,
    column: int,
    step_ms: float,
    prefill_tokens: float,
    decode_tokens: float,
    steps: float,
    now_ns: float,
) -> None:
    """One worker's step, or `steps` that only decoded; each eighth time all are solved."""
    _elapse(sums, column, now_ns)
    first, x, y = DECODE, decode_tokens, step_ms
    if prefill_tokens > 0.0:
        beside = 0.0
        if decode_tokens > 0.0:
            beside = table[BASE + 2, column] + table[BASE + 3, column] * decode_tokens
        first, x, y = PREFILL, prefill_tokens, max(0.0, step_ms - beside)
    expected = _expected(sums, column, first, x)
    # Of short prompts the base is all there is, and no straight line fits it well: a speed shows in
    # those that are half as long as usual, or longer.
    tells = first == DECODE or x >= 0.5 * fleet[PREFILL + 1, 0] / fleet[PREFILL, 0]
    is_odd = tells and _is_odd(expected, y)
    if first == PREFILL and tells:
        _judge_prompt(sums, fleet, column, x, y, expected, now_ns)
    _add(sums, column, first, x, y, steps, SURPRISED_MEMORY if is_odd else STEP_MEMORY)
    _add(fleet, 0, first, x, y, steps, FLEET_MEMORY)
    fleet[NEWS, 0] += 1.0
    if fleet[NEWS, 0] >= SOLVE_ALL_AFTER:
        _solve_all(sums, fleet, table, now_ns)
    else:
        _solve_worker(sums, fleet, table, column)
    table[LAST_STEP_NS, column] = now_ns


@kernel("void(float64[:, ::1], float64[:, ::1], float64[:, ::1], int64, float64, float64, float64)")
def timed(
    sums: Floats,
    fleet: Floats,
    table: Floats,
    column: int,
    expected_ms: float,
    took_ms: float,
    now_ns: float,
) -> None:
    """A prompt was alone with its worker for so long, dispatch to first token."""
    _elapse(sums, column, now_ns)
    keep = 1.0 - 1.0 / DRIFT_MEMORY
    sums[TOOK_MS, column] = sums[TOOK_MS, column] * keep + took_ms
    sums[EXPECTED_MS, column] = sums[EXPECTED_MS, column] * keep + expected_ms
    _solve_worker(sums, fleet, table, column)
