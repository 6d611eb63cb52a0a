"""The policies' arithmetic worker by worker, in plain Python: what the array form must equal.

Written from the meaning of each term, not from `router/policy/radix/cost_kernels.py`. `view` makes
a `View` of rows that a test can read.
"""

import math
import statistics
from dataclasses import dataclass, replace

import msgspec
import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.radix.scores import Terms
from radixroute.router.policy.radix.weights import WEIGHTS as weights
from radixroute.router.policy.view import View

TIE_MS = 1e-6
OUTPUT = 32.0
MEAN_PREFILL_MS = 200.0


@dataclass(frozen=True)
class Row:
    """One worker as a test states it."""

    worker_id: str
    overlap: int = 0
    in_flight: int = 0
    queued: int = 0
    decoding: int = 0
    backlog_ms: float = 0.0
    step_left_ms: float = 0.0
    recent_prefill: float = 0.0
    max_batched_tokens: int = 0  # 0: not known
    prefill_base_ms: float = 5.0
    ms_per_prefill_token: float = 0.5
    step_base_ms: float = 10.0
    ms_per_decode: float = 1.0


def terms(
    *,
    replica_ms: float = 0.0,
    followers: float = 0.0,
    compute: float = weights.compute,
    output: float = OUTPUT,
) -> Terms:
    """What the radix policy adds to a view."""
    return Terms(
        output_tokens=output,
        replica_ms=replica_ms,
        followers=followers,
        mean_prefill_ms=MEAN_PREFILL_MS,
        compute=compute,
    )


def view(*rows: Row, tokens: int = 1000, replica_ms: float = 0.0, **changes) -> View:
    table = np.zeros((at.N_ROWS, len(rows)))
    table[at.IN_FLIGHT] = [row.in_flight for row in rows]
    table[at.QUEUED] = [row.queued for row in rows]
    table[at.DECODING] = [row.decoding for row in rows]
    table[at.BACKLOG_MS] = [row.backlog_ms for row in rows]
    table[at.STEP_LEFT_MS] = [row.step_left_ms for row in rows]
    table[at.DRIFT] = 1.0
    table[at.SEATS] = table[at.ROOM] = np.inf
    table[at.RECENT_PREFILL] = [row.recent_prefill for row in rows]
    table[at.MAX_BATCHED] = [row.max_batched_tokens or np.inf for row in rows]
    table[at.PREFILL_BASE_MS] = [row.prefill_base_ms for row in rows]
    table[at.MS_PER_PREFILL] = [row.ms_per_prefill_token for row in rows]
    table[at.STEP_BASE_MS] = [row.step_base_ms for row in rows]
    table[at.MS_PER_DECODE] = [row.ms_per_decode for row in rows]
    made = View(
        prompt_tokens=tokens,
        worker_ids=tuple(WorkerId(row.worker_id) for row in rows),
        overlap_blocks=np.array([row.overlap for row in rows], np.int32),
        expected_blocks=np.zeros(len(rows), np.int32),
        block_size=16,
        table=table,
        draw=0,
        own=terms(replica_ms=replica_ms),
    )
    return msgspec.structs.replace(made, **changes)


def scalar_terms(
    what: View, row: Row, rows: list[Row], longest: int | None = None
) -> dict[str, float]:
    """The radix policy's terms for one of the workers, in milliseconds. `longest`: blocks that
    any worker really holds; None: as many as the most of `rows`."""
    terms = _plain_terms(what, row, rows)
    copy_ms = sum(terms.values()) - held_total(what, row, rows, longest)
    return {**terms, "replica": -min(what.own.replica_ms, max(0.0, copy_ms))}


def held_total(what: View, row: Row, rows: list[Row], longest: int | None = None) -> float:
    """If the worker held as much as the best really does; more, where it has more on its way."""
    if longest is None:
        longest = max(other.overlap for other in rows)
    most = max(row.overlap, longest)
    return sum(_plain_terms(what, replace(row, overlap=most), rows).values())


def _plain_terms(what: View, row: Row, rows: list[Row]) -> dict[str, float]:
    uncached = what.prompt_tokens - what.cached_tokens(row.overlap)
    steps = 1
    if row.max_batched_tokens:
        steps = max(1, math.ceil(uncached / row.max_batched_tokens))
    prefill_ms = steps * row.prefill_base_ms + uncached * row.ms_per_prefill_token
    step_ms = row.step_base_ms + row.ms_per_decode * row.decoding if row.decoding else 0.0
    mean_recent = sum(other.recent_prefill for other in rows) / len(rows)
    output = what.own.output_tokens
    pushed_ms = min(uncached + output, weights.turnover_tokens) * row.ms_per_prefill_token
    share = row.recent_prefill / mean_recent if mean_recent else 0.0
    longer_ms = row.ms_per_decode * output
    now_ms = answer_price(rows) * (prefill_ms + longer_ms)
    later_ms = what.own.followers * (what.own.mean_prefill_ms + longer_ms)
    harm_ms = now_ms + weights.answers_to_come * later_ms
    return {
        "queue": row.backlog_ms or row.step_left_ms,
        "prefill": prefill_ms,
        "steps": steps * step_ms,
        "compute": what.own.compute * prefill_ms,
        "slow_down": row.in_flight * harm_ms,
        "turnover": weights.turnover * pushed_ms * share,
    }


def answer_price(rows: list[Row]) -> float:
    """Of a millisecond of others' answers: more, as far as the requests of workers differ by more
    than chance, which is by as much as they are many."""
    requests = [row.in_flight for row in rows]
    mean, variance = statistics.fmean(requests), statistics.pvariance(requests)
    crowding = max(0.0, 1.0 - mean / variance) if variance else 0.0
    return weights.answer + weights.answers_to_come * crowding


def scalar_totals(policy: str, what: View, rows: list[Row]) -> list[float]:
    if policy.startswith("radix"):
        return [sum(scalar_terms(what, row, rows).values()) for row in rows]
    return [float(row.in_flight) for row in rows]


def scalar_choice(policy: str, what: View, rows: list[Row]) -> int:
    """Position of the worker that the policy must take."""
    totals, n, draw = scalar_totals(policy, what, rows), len(rows), what.draw
    match policy:
        case "round_robin":
            return int(what.own % n)
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
