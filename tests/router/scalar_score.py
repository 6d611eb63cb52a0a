"""The policies' arithmetic worker by worker, in plain Python: what the array form must equal.

Written from the meaning of each term, not from `radixroute.router.score`, whose weights it takes.
`view` makes a `View` of rows that a test can read.
"""

import math
from dataclasses import dataclass, replace

import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.score import (
    COMPUTE_HARM_WEIGHT,
    DECODE_HARM_WEIGHT,
    EVICTED_REUSE_CHANCE,
)
from radixroute.router.selection import load_cap
from radixroute.router.view import View

TIE_MS = 1e-6


@dataclass(frozen=True)
class Row:
    """One worker as a test states it."""

    worker_id: str
    overlap: int = 0
    in_flight: int = 0
    queued: int = 0
    decoding: int = 0
    kv_blocks_total: int = 0  # 0: not known
    kv_blocks_used: int = 0
    max_batched_tokens: int = 0  # 0: not known
    ms_per_prefill_token: float = 0.5
    step_base_ms: float = 10.0
    ms_per_decode: float = 1.0


def view(*rows: Row, tokens: int = 1000, **changes) -> View:
    def column(*values: float) -> np.ndarray:
        return np.array(values, np.float64)

    in_flight = column(*(row.in_flight for row in rows))
    made = View(
        prompt_tokens=tokens,
        block_size=16,
        output_tokens=32.0,
        worker_ids=tuple(WorkerId(row.worker_id) for row in rows),
        overlap_blocks=np.array([row.overlap for row in rows], np.int32),
        expected_blocks=np.zeros(len(rows), np.int32),
        in_flight=in_flight,
        queued_tokens=column(*(row.queued for row in rows)),
        decoding=column(*(row.decoding for row in rows)),
        ms_per_prefill_token=column(*(row.ms_per_prefill_token for row in rows)),
        step_base_ms=column(*(row.step_base_ms for row in rows)),
        ms_per_decode=column(*(row.ms_per_decode for row in rows)),
        free_kv_blocks=column(
            *(
                max(0, row.kv_blocks_total - row.kv_blocks_used) if row.kv_blocks_total else np.inf
                for row in rows
            )
        ),
        max_batched_tokens=column(*(row.max_batched_tokens or np.inf for row in rows)),
        cap=load_cap(in_flight, 1.5),
        turn=0,
        draw=0,
    )
    return replace(made, **changes)


def scalar_terms(what: View, row: Row) -> dict[str, float]:
    """The radix policy's terms for one worker, in milliseconds."""
    credit = row.overlap if row.in_flight + 1 <= what.cap else 0
    uncached = what.prompt_tokens - what.cached_tokens(credit)
    prefill_ms = uncached * row.ms_per_prefill_token
    passes = 1
    if row.max_batched_tokens:
        passes = max(1, math.ceil((row.queued + uncached) / row.max_batched_tokens))
    lasting_ms = row.ms_per_decode * what.output_tokens
    evicted = 0
    if row.kv_blocks_total:
        wanted = math.ceil((uncached + what.output_tokens) / what.block_size)
        evicted = max(0, wanted - max(0, row.kv_blocks_total - row.kv_blocks_used))
    evicted_ms = evicted * what.block_size * row.ms_per_prefill_token
    return {
        "queue": row.queued * row.ms_per_prefill_token,
        "prefill": prefill_ms,
        "steps": passes * (row.step_base_ms + row.ms_per_decode * row.decoding),
        "compute": COMPUTE_HARM_WEIGHT * prefill_ms,
        "slow_down": DECODE_HARM_WEIGHT * row.in_flight * (prefill_ms + lasting_ms),
        "evict": EVICTED_REUSE_CHANCE * evicted_ms,
    }


def scalar_totals(policy: str, what: View, rows: list[Row]) -> list[float]:
    if policy == "radix":
        return [sum(scalar_terms(what, row).values()) for row in rows]
    return [float(row.in_flight) for row in rows]


def scalar_choice(policy: str, what: View, rows: list[Row]) -> int:
    """Position of the worker that the policy must take."""
    totals, n, draw = scalar_totals(policy, what, rows), len(rows), what.draw
    match policy:
        case "round_robin":
            return what.turn % n
        case "random":
            return draw % n
        case "power_of_two" if n > 1:
            first, rest = draw % n, draw // n
            second = (first + 1 + rest % (n - 1)) % n
            return _cheapest(totals, [first, second], rest // n)
    return _cheapest(totals, list(range(n)), draw)


def _cheapest(totals: list[float], among: list[int], draw: int) -> int:
    best = min(totals[i] for i in among)
    ties = [i for i in among if totals[i] <= best + TIE_MS]
    return ties[draw % len(ties)]
