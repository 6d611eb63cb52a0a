"""Forecast: what a prompt costs on a worker, and the rules that every policy shares.

Pure. The arithmetic over many workers is compiled (`forecast_kernels`, imported at first use: numba
takes half a second); what is written here is the one place of each rule.
"""

from functools import cache
from typing import Any

import numpy as np

from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.view import Numbers, View


@cache
def kernels() -> Any:
    """`forecast_kernels`, at first use."""
    from radixroute.router.policy import forecast_kernels

    return forecast_kernels


def cheapest(totals: Numbers, draw: int) -> int:
    """Position of the lowest total; ties break by the draw, never by position."""
    return int(kernels().cheapest(totals, draw))


def expected_ttft_ms(view: View, worker: int) -> float:
    """Dispatch to first token, of a request that goes there now."""
    cached = view.cached_tokens(int(view.overlap_blocks[worker]))
    table = view.table[:, worker]
    tokens = float(view.prompt_tokens - cached)
    steps = max(1.0, np.ceil(tokens / table[at.MAX_BATCHED]))
    queue = table[at.BACKLOG_MS] if table[at.BACKLOG_MS] > 0.0 else table[at.STEP_LEFT_MS]
    prefill = steps * table[at.PREFILL_BASE_MS] + tokens * table[at.MS_PER_PREFILL]
    beside = 0.0
    if table[at.DECODING] > 0.0:
        beside = table[at.STEP_BASE_MS] + table[at.MS_PER_DECODE] * table[at.DECODING]
    return float(queue + prefill + steps * beside)


def expected_ttfts_ms(view: View) -> Numbers:
    """The same on every worker, shape (workers,). A fixed number of array operations."""
    table, tokens = view.table, view.uncached_tokens
    steps = np.maximum(1.0, np.ceil(tokens / table[at.MAX_BATCHED]))
    backlog, decoding = table[at.BACKLOG_MS], table[at.DECODING]
    queue = np.where(backlog > 0.0, backlog, table[at.STEP_LEFT_MS])
    prefill = steps * table[at.PREFILL_BASE_MS] + tokens * table[at.MS_PER_PREFILL]
    beside = table[at.STEP_BASE_MS] + table[at.MS_PER_DECODE] * decoding
    ttfts: Numbers = queue + prefill + steps * np.where(decoding > 0.0, beside, 0.0)
    return ttfts
