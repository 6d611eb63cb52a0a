"""Planning: all waiting requests together, who goes where now and who waits for whom.

Pure, between Python's records and the kernel's arrays. `Weighed` is what a plan leaves to be noted
of each request when it is carried out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, NamedTuple

import numpy as np

from radixroute.radix.ids import Keys, Runs
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.candidates import Candidates
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.policy import Bound, Plan
from radixroute.router.policy.radix.beginnings import Beginnings
from radixroute.router.policy.radix.replicas import Replicas, longest_held, name_of
from radixroute.router.policy.radix.scores import NAMES, Terms, Usual, kernels
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Numbers, View

LEAST_PREFILL_MS: Final = 1.0
_NO_KEYS: Final[Keys] = np.empty(0, np.uint64)


@dataclass(slots=True)
class Pace:
    """What is usual: by it a wait is long and a prompt is large. Milliseconds."""

    wait_ms: float = 100.0
    prefill_ms: float = 200.0
    waits_ms: float = 0.0  # the same without a first guess

    def bound(self, waited_ms: float, prefill_ms: float) -> None:
        """One request more. The last hundred or so count."""
        self.wait_ms += (waited_ms - self.wait_ms) * 0.01
        self.prefill_ms += (prefill_ms - self.prefill_ms) * 0.01
        self.waits_ms += (waited_ms - self.waits_ms) * 0.01

    @property
    def delayed(self) -> float:
        """Requests that start a millisecond later for each millisecond that is computed longer.

        With waits of a mean prefills a queue (M/M/1) is busy for rho = a / (1 + a) of the time, and
        rho^2 / (1 - rho) requests wait in it; this grows with rho by 2 a + a^2.
        """
        waits = self.waits_ms / max(self.prefill_ms, LEAST_PREFILL_MS)
        return waits * (2.0 + waits)


class Weighed(NamedTuple):
    """One request that was weighed."""

    request_id: str
    prefix: int | None  # the longest that anybody holds
    lost_ms: float  # for want of one more copy of it
    spent_ms: float  # on one more copy
    pace_ms: tuple[float, float] | None = None  # waited, prefill; None: not bound by a plan
    is_bound: bool = False


class Books(NamedTuple):
    """What the policy learned of prefixes."""

    replicas: Replicas
    beginnings: Beginnings


class Question(NamedTuple):
    """Who waits, and what is believed of them."""

    policy: str
    asks: Sequence[Ask]
    candidates: Candidates
    snapshot: Snapshot
    draws: Sequence[int]
    believed: Sequence[tuple[Runs, Runs]]  # overlap and expected blocks of each on every worker


class Desk(NamedTuple):
    """Arrays of one plan: what the kernel is told, answers and works in. Nothing in them counts
    between two plans, so plans of as many requests and workers may share them."""

    prompts: Any
    placed: Any
    scratch: Any

    def is_for(self, n_requests: int, n_workers: int) -> bool:
        """The kernel goes by the shapes."""
        return bool(self.prompts.overlap_blocks.shape == (n_requests, n_workers))


def plan_together(
    question: Question, table: Numbers, usual: Usual, books: Books, desk: Desk
) -> Plan:
    """`table` and `desk` change."""
    before = table.copy()
    asks, nothing = question.asks, question.candidates.nothing
    prefixes = list[int | None]()
    prompts = desk.prompts
    if len(asks) > 1:
        prompts = prompts._replace(keys=_shared_keys(asks, prompts.ends))
    (
        tokens,
        output_tokens,
        waited_ms,
        draws,
        overlap_blocks,
        longest_blocks,
        replica_ms,
        followers,
        *_,
    ) = prompts
    for r, ask in enumerate(asks):
        overlap, expected = question.believed[r]
        longest = longest_held(overlap if expected is nothing else overlap - expected)
        prefix = name_of(ask.spec.keys, longest)
        prefixes.append(prefix)
        tokens[r] = ask.prompt_tokens
        output_tokens[r] = question.snapshot.expected_output(ask)
        waited_ms[r] = (question.snapshot.now_ns - ask.spec.arrival_ns) / 1e6
        draws[r] = question.draws[r]
        overlap_blocks[r] = overlap
        longest_blocks[r] = longest
        replica_ms[r] = books.replicas.credit_ms(prefix, ask.request_id)
        followers[r] = books.beginnings.followers_of(prefix, ask.request_id)
    placed = desk.placed
    _plan_kernel()(prompts, table, usual, placed, desk.scratch)
    bound, weighed = list[Bound](), list[Weighed]()
    for r in placed.order.tolist():
        pace_ms, spent_ms, is_bound = None, 0.0, placed.is_bound.item(r)
        if is_bound:
            then = before if len(asks) == 1 else before.copy()
            then[at.BACKLOG_MS], then[at.IN_FLIGHT] = placed.backlog_ms[r], placed.in_flight[r]
            then.setflags(write=False)
            best, spent_ms = placed.best.item(r), placed.spent_ms.item(r)
            terms = Terms(
                output_tokens=output_tokens.item(r),
                replica_ms=replica_ms.item(r),
                followers=followers.item(r),
                mean_prefill_ms=usual.mean_prefill_ms,
                compute=usual.compute,
            )
            view = _view(question, r, overlap_blocks, then, terms)
            bound.append(Bound(asks[r], _decision(question, r, view, best, placed)))
            pace_ms = waited_ms.item(r), placed.prefill_ms.item(r)
        lost_ms = placed.lost_ms.item(r)
        request_id, prefix = asks[r].request_id, prefixes[r]
        weighed.append(Weighed(request_id, prefix, lost_ms, spent_ms, pace_ms, is_bound))
    return Plan(bound, is_weighed=True, own=weighed)


def _shared_keys(asks: Sequence[Ask], ends: Any) -> Keys:
    """Block keys of those whose first block is another's, too; `ends` says whose they are."""
    firsts = [ask.spec.keys[:1].tobytes() for ask in asks]
    n_with = Counter(firsts)
    keys = [
        ask.spec.keys if first and n_with[first] > 1 else _NO_KEYS
        for ask, first in zip(asks, firsts, strict=True)
    ]
    np.cumsum([len(own) for own in keys], out=ends[1:])
    return np.concatenate(keys)


def _view(question: Question, r: int, seen: Runs, table: Numbers, terms: Terms) -> View:
    """`seen`: the overlaps as they stood when it was looked at, (requests, workers)."""
    overlap, expected = question.believed[r]
    if len(seen) > 1 and (seen[r] != overlap).any():  # requests before it bring it some
        expected = expected + (seen[r] - overlap)
        overlap = seen[r].copy()
        for blocks in (overlap, expected):
            blocks.setflags(write=False)
    return View(
        question.asks[r].prompt_tokens,
        question.snapshot.block_size,
        question.candidates.worker_ids,
        overlap,
        expected,
        table,
        question.draws[r],
        question.candidates.excluded,
        terms,
    )


def _decision(question: Question, r: int, view: View, worker: int, placed: Any) -> Decision:
    return Decision(
        attempt=question.asks[r].attempt + 1,
        policy=question.policy,
        view=view,
        chosen=worker,
        ttft_ms=placed.ttft_ms.item(r),
    )


@cache
def _plan_kernel() -> Any:
    """Its arguments are always of the types it was compiled for; finding out what they are took
    9 of 12 us."""
    from radixroute.radix.jit import entry_point  # here: numba takes 0.5 s to import

    return entry_point(kernels().plan)


def desk_for(n_requests: int, n_workers: int) -> Desk:
    """With nothing on it."""
    at_kernel = kernels()
    tokens, output_tokens, waited_ms, replica_ms, followers = np.empty((5, n_requests))
    lost_ms, spent_ms, ttft_ms, prefill_ms = np.empty((4, n_requests))
    longest_blocks, order, best = np.empty((3, n_requests), np.int64)
    backlog_ms, in_flight = np.empty((2, n_requests, n_workers))
    return Desk(
        at_kernel.Prompts(
            tokens=tokens,
            output_tokens=output_tokens,
            waited_ms=waited_ms,
            draws=np.empty(n_requests, np.uint64),
            overlap_blocks=np.empty((n_requests, n_workers), np.int32),
            longest_blocks=longest_blocks,
            replica_ms=replica_ms,
            followers=followers,
            keys=_NO_KEYS,
            ends=np.zeros(n_requests + 1, np.int64),
        ),
        at_kernel.Placements(
            order=order,
            best=best,
            is_bound=np.empty(n_requests, np.bool_),
            backlog_ms=backlog_ms,
            in_flight=in_flight,
            lost_ms=lost_ms,
            spent_ms=spent_ms,
            ttft_ms=ttft_ms,
            prefill_ms=prefill_ms,
        ),
        at_kernel.Scratch(
            rows=np.empty((4, max(n_requests, n_workers, len(NAMES)))),
            was_given=np.empty(n_workers, np.bool_),
        ),
    )
