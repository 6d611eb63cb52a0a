"""Kernels of the forecast: what queues and steps of workers take, from what is known of them.

Pure arithmetic on arrays; importing this module compiles or loads from the cache (`radix.jit`).
"""

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.jit import helper, kernel
from radixroute.router.policy.columns_layout import (
    BACKLOG_MS,
    DECODING,
    DRIFT,
    IN_FLIGHT,
    LAST_STEP_NS,
    MAX_BATCHED,
    MS_PER_DECODE,
    MS_PER_PREFILL,
    PREFILL_BASE_MS,
    PROMPTS,
    QUEUED,
    RECENT_PREFILL,
    SEATS,
    SINCE_NS,
    STEP_BASE_MS,
    STEP_LEFT_MS,
)
from radixroute.router.policy.view import TIE_MS, cacheable_blocks

Floats: TypeAlias = NDArray[np.float64]
Columns: TypeAlias = NDArray[np.intp]
_ROWS = "float64[:, ::1]"

_cacheable = helper(cacheable_blocks)


@helper
def uncached(prompt: float, overlap: int, block: float) -> float:
    """Prompt tokens to compute where so many leading blocks are cached."""
    return prompt - min(float(overlap), _cacheable(prompt, block)) * block  # type: ignore[no-any-return]


@helper
def steps_of(tokens: float, table: Floats, w: int) -> float:
    """Steps that so many prompt tokens take."""
    return max(1.0, np.ceil(tokens / table[MAX_BATCHED, w]))  # type: ignore[no-any-return]


@helper
def decode_step_ms(table: Floats, w: int) -> float:
    """A step that only decodes those who decode now."""
    if table[DECODING, w] <= 0.0:
        return 0.0
    return table[STEP_BASE_MS, w] + table[MS_PER_DECODE, w] * table[DECODING, w]  # type: ignore[no-any-return]


@helper
def prefill_ms(tokens: float, table: Floats, w: int) -> float:
    """Of so many prompt tokens, without what decodes beside them."""
    steps = steps_of(tokens, table, w)
    return steps * table[PREFILL_BASE_MS, w] + tokens * table[MS_PER_PREFILL, w]  # type: ignore[no-any-return]


@helper
def can_start(table: Floats, lead_ms: float, w: int) -> bool:
    """Whether the worker would start a prompt now, or as soon as it could be there."""
    if table[IN_FLIGHT, w] >= table[SEATS, w]:
        return False
    if table[BACKLOG_MS, w] <= 0.0 and table[PROMPTS, w] <= 0.0:
        return True
    return table[PROMPTS, w] <= 1.0 and table[BACKLOG_MS, w] <= lead_ms  # type: ignore[no-any-return]


@helper
def _take(table: Floats, first: int, rows: Floats, columns: Columns) -> None:
    """Rows from `first` on: those of another table, in the order of `columns`."""
    for row in range(rows.shape[0]):
        for w in range(table.shape[1]):
            table[first + row, w] = rows[row, columns[w]]


@kernel(f"int64({_ROWS}, int64[::1], {', '.join([_ROWS] * 4)}, float64, float64)")
def prepare(  # noqa: PLR0913, PLR0917 - what a table is made of
    table: Floats,
    columns: Columns,
    loads: Floats,
    speeds: Floats,
    recent: Floats,
    limits: Floats,
    now_ns: float,
    lead_ms: float,
) -> int:
    """Fills `table` for the workers in `columns`; how many of them can start a prompt now.

    `loads`, `speeds`, `recent`: of all columns; `limits`: of these workers.
    """
    _take(table, IN_FLIGHT, loads, columns)
    _take(table, PREFILL_BASE_MS, speeds, columns)
    _take(table, RECENT_PREFILL, recent, columns)
    n_free = 0
    for w in range(table.shape[1]):
        for row in range(limits.shape[0]):
            table[MAX_BATCHED + row, w] = limits[row, w]
        step = decode_step_ms(table, w)
        backlog, rest = 0.0, 0.0
        if table[QUEUED, w] > 0.0:
            tokens = table[QUEUED, w]
            whole = prefill_ms(tokens, table, w) + steps_of(tokens, table, w) * step
            # Late against the forecast: it may end any moment, but it has not.
            least = 0.01 if table[PROMPTS, w] > 0.0 else 0.0
            whole *= table[DRIFT, w]
            backlog = max(least, whole - (now_ns - table[SINCE_NS, w]) / 1e6)
        elif step > 0.0:
            rest = min(step, max(0.0, step - (now_ns - table[LAST_STEP_NS, w]) / 1e6))
        table[BACKLOG_MS, w] = backlog
        table[STEP_LEFT_MS, w] = rest
        n_free += can_start(table, lead_ms, w)
    return n_free


@kernel("int64(Array(float64, 1, 'C', readonly=True), uint64)")
def cheapest(costs: Floats, draw: np.uint64) -> int:
    """The lowest cost; ties break by the draw, never by position."""
    best, ties = np.inf, 0
    for w in range(len(costs)):
        best = min(best, costs[w])
    for w in range(len(costs)):
        ties += costs[w] <= best + TIE_MS
    skip = np.int64(draw % np.uint64(ties))
    for w in range(len(costs)):
        if costs[w] <= best + TIE_MS:
            if skip == 0:
                return w
            skip -= 1
    return 0
