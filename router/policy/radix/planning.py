"""Planning: all waiting requests together, who goes where now and who waits for whom.

Pure, between Python's records and the kernel's arrays. `Weighed` is what a plan leaves to be noted
of each request when it is carried out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from radixroute.radix.ids import Runs
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.candidates import Candidates
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.policy import Bound, Plan
from radixroute.router.policy.radix.replicas import Replicas, longest_held, name_of
from radixroute.router.policy.radix.scores import NAMES, Terms, Usual, kernels
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Numbers, View


@dataclass(slots=True)
class Pace:
    """What is usual: by it a wait is long and a prompt is large. Milliseconds."""

    wait_ms: float = 100.0
    prefill_ms: float = 200.0

    def bound(self, waited_ms: float, prefill_ms: float) -> None:
        """One request more. The last hundred or so count."""
        self.wait_ms += (waited_ms - self.wait_ms) * 0.01
        self.prefill_ms += (prefill_ms - self.prefill_ms) * 0.01


class Weighed(NamedTuple):
    """One request that was weighed."""

    request_id: str
    prefix: int | None  # the longest that anybody holds
    lost_ms: float  # for want of one more copy of it
    spent_ms: float  # on one more copy
    pace_ms: tuple[float, float] | None = None  # waited, prefill; None: not bound by a plan


class Question(NamedTuple):
    """Who waits, and what is believed of them."""

    policy: str
    asks: Sequence[Ask]
    candidates: Candidates
    snapshot: Snapshot
    draws: Sequence[int]
    believed: Sequence[tuple[Runs, Runs]]  # overlap and expected blocks of each on every worker


def plan_together(question: Question, table: Numbers, usual: Usual, replicas: Replicas) -> Plan:
    """`table` changes."""
    before = table.copy()
    asks, nothing = question.asks, question.candidates.nothing
    n_requests, n_workers = len(asks), table.shape[1]
    waited_ms = np.array([(question.snapshot.now_ns - ask.spec.arrival_ns) / 1e6 for ask in asks])
    longest = [
        longest_held(overlap if expected is nothing else overlap - expected)
        for overlap, expected in question.believed
    ]
    prefixes = [name_of(ask.spec.keys, n) for ask, n in zip(asks, longest, strict=True)]
    prompts = kernels().Prompts(
        tokens=np.array([ask.prompt_tokens for ask in asks], np.float64),
        waited_ms=waited_ms,
        draws=np.array(question.draws, np.uint64),
        overlap_blocks=np.array([overlap for overlap, _ in question.believed], np.int32),
        longest_blocks=np.array(longest, np.int64),
        replica_ms=np.array(
            [replicas.credit_ms(p, ask.request_id) for p, ask in zip(prefixes, asks, strict=True)]
        ),
    )
    placed = placements(n_requests, n_workers)
    _plan_kernel()(prompts, table, usual, placed, scratch(n_requests, n_workers))
    bound, weighed = list[Bound](), list[Weighed]()
    for r in placed.order.tolist():
        is_bound, best = bool(placed.is_bound[r]), int(placed.best[r])
        pace_ms = None
        if is_bound:
            then = before if n_requests == 1 else before.copy()
            then[at.BACKLOG_MS], then[at.IN_FLIGHT] = placed.backlog_ms[r], placed.in_flight[r]
            then.setflags(write=False)
            overlap, expected = question.believed[r]
            terms = Terms(usual.output_tokens, float(prompts.replica_ms[r]))
            view = View(
                asks[r].prompt_tokens,
                question.snapshot.block_size,
                question.candidates.worker_ids,
                overlap,
                expected,
                then,
                question.draws[r],
                question.candidates.excluded,
                terms,
            )
            bound.append(Bound(asks[r], _decision(question, r, view, best, placed)))
            pace_ms = float(waited_ms[r]), _prefill_ms(view, best)
        spent_ms = float(placed.spent_ms[r]) if is_bound else 0.0
        lost_ms = float(placed.lost_ms[r])
        weighed.append(Weighed(asks[r].request_id, prefixes[r], lost_ms, spent_ms, pace_ms))
    return Plan(bound, is_weighed=True, own=weighed)


def _decision(question: Question, r: int, view: View, worker: int, placed: Any) -> Decision:
    return Decision(
        attempt=question.asks[r].attempt + 1,
        policy=question.policy,
        view=view,
        chosen=worker,
        ttft_ms=float(placed.ttft_ms[r]),
    )


@cache
def _plan_kernel() -> Any:
    """Its arguments are always of the types it was compiled for; finding out what they are took
    9 of 12 us."""
    from radixroute.radix.jit import entry_point  # here: numba takes 0.5 s to import

    return entry_point(kernels().plan)


def placements(n_requests: int, n_workers: int) -> Any:
    """Where the kernel writes its answer."""
    order, best = np.empty((2, n_requests), np.int64)
    lost_ms, spent_ms, ttft_ms = np.empty((3, n_requests))
    backlog_ms, in_flight = np.empty((2, n_requests, n_workers))
    return kernels().Placements(
        order=order,
        best=best,
        is_bound=np.empty(n_requests, np.bool_),
        backlog_ms=backlog_ms,
        in_flight=in_flight,
        lost_ms=lost_ms,
        spent_ms=spent_ms,
        ttft_ms=ttft_ms,
    )


def scratch(n_requests: int, n_workers: int) -> Any:
    """What the kernel works in."""
    rows = np.empty((4, max(n_requests, n_workers, len(NAMES))))
    return kernels().Scratch(rows, np.zeros(n_workers, np.bool_))


def _prefill_ms(view: View, worker: int) -> float:
    tokens = view.prompt_tokens - view.cached_tokens(int(view.overlap_blocks[worker]))
    table = view.table
    base, each = table.item(at.PREFILL_BASE_MS, worker), table.item(at.MS_PER_PREFILL, worker)
    return float(base + tokens * each)
