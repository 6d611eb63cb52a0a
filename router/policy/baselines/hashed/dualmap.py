"""DualMap (Yuan et al., arXiv 2602.06502): the better of two workers that a prompt's beginning is
hashed to, by cache while the goal for the first token is met, by load where it would be missed.

    first, second = two hashes of the beginning
    by cache:  fewest uncached tokens of the two, if queue + prefill there <= goal
    by load:   fewest prompt tokens to compute there, queued ones and its own, otherwise
               and where both hold as much

A beginning is hot while more than 2/workers of the last 1,000 requests had it; one that is hot is
taken twice as long, so that its requests spread over more pairs.

Chosen here: the paper's goal is 5 s on workers that need seconds for a prompt, ours GOAL_MS. It
grows a hot beginning by a block and shrinks it below 1/workers; doubling without that slack is what
Dynamo's port does (`ai-dynamo/dynamo`, pull request 15450). Rendezvous hashing is in place of two
rings: who comes or goes moves as little. It moves prompts that wait at one worker to the other of
their pair; here what was sent stays. A prompt of less than a block goes by load alone.
"""

from collections import Counter, deque
from typing import NamedTuple

import numpy as np

from radixroute.radix.ids import Keys
from radixroute.radix.mixing import finalise_int
from radixroute.router.policy.forecast import cheapest, expected_ttft_ms
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.formula.hashing import BEGINNING_TOKENS, drawn
from radixroute.router.policy.policy import Dispatched, PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, Numbers, Scores, View

GOAL_MS = 1000.0
WINDOW = 1000  # requests
HOT_SHARE = 2.0  # over the mean of as many beginnings as there are workers
FEW = 8  # requests that make nothing hot
MOST_DOUBLINGS = 7
_GATE = 1e12  # more than any prompt: what the two hashes leave out


class Pair(NamedTuple):
    """Of one request: positions of the two workers; the same twice if there is no other."""

    first: int
    second: int


class Hotness:
    """How often each beginning was asked for lately."""

    def __init__(self) -> None:
        self._window: deque[tuple[int, ...]] = deque()  # keys of each request, shortest first
        self._counts: Counter[int] = Counter()

    def key(self, keys: Keys, block_size: int, n_workers: int) -> int | None:
        """Of the shortest beginning that is not hot; None: the prompt has no whole block."""
        known = _beginnings(keys, block_size)
        if not known:
            return None
        hot = max(FEW, HOT_SHARE / n_workers * len(self._window))
        return next((key for key in known if self._counts[key] <= hot), known[-1])

    def count(self, dispatched: Dispatched) -> None:
        known = _beginnings(dispatched.spec.keys, dispatched.decision.view.block_size)
        self._window.append(known)
        self._counts.update(known)
        if len(self._window) > WINDOW:
            for key in self._window.popleft():
                self._counts[key] -= 1
                if not self._counts[key]:
                    del self._counts[key]


def pick(view: View) -> Choice:
    """O(workers)."""
    terms = np.zeros((3, len(view.worker_ids)))
    unmapped, uncached, pending = terms
    tokens = view.uncached_tokens
    if view.own is None:
        reason = "Nothing of it is hashed: here is the least to compute."
        pending[:] = view.queued_tokens + tokens
    else:
        unmapped[:] = _GATE
        unmapped[list(view.own)] = 0.0
        reason, by_cache = _better(view, tokens, *view.own)
        if by_cache:
            uncached[:] = tokens
        else:
            pending[:] = view.queued_tokens + tokens
    scores = Scores(("unmapped", "uncached", "pending"), ("gate", "tokens", "tokens"), terms)
    return Choice(cheapest(scores.totals, view.draw), reason, scores)


def _better(view: View, tokens: Numbers, first: int, second: int) -> tuple[str, bool]:
    """Why one of the two, and whether by cache."""
    if first == second:
        return "It was the only candidate.", True
    if tokens[first] == tokens[second]:
        return "The two it is hashed to hold as much of it: here is the less to compute.", False
    warm = first if tokens[first] < tokens[second] else second
    if expected_ttft_ms(view, warm) <= GOAL_MS:
        return "Of the two it is hashed to this one holds more, and meets the goal.", True
    return "The one that holds more of it would miss the goal: the two go by load.", False


def made(parts: PolicyParts) -> AtOnce:
    hotness = Hotness()

    def pair(ask: Ask, snapshot: Snapshot, view: View) -> Pair | None:
        n_workers = len(view.worker_ids)
        key = hotness.key(ask.spec.keys, snapshot.block_size, n_workers)
        return None if key is None else _pair(key, view)

    return AtOnce(parts, pick, own=pair, on_dispatch=hotness.count)


POLICIES: dict[str, PolicyFactory] = {"dualmap": made}


def _pair(key: int, view: View) -> Pair:
    """The lowest draws of two hashes; the second's is of the others."""
    first = int(drawn(key, view.worker_ids).argmin())
    if len(view.worker_ids) == 1:
        return Pair(first, first)
    seconds = drawn(finalise_int(key), view.worker_ids)
    seconds[first] = np.iinfo(np.uint64).max
    return Pair(first, int(seconds.argmin()))


def _beginnings(keys: Keys, block_size: int) -> tuple[int, ...]:
    """Keys of its first 1,024 tokens, twice as many, and so on; all of it if that is shorter."""
    n_blocks = max(1, BEGINNING_TOKENS // block_size)
    if len(keys) < n_blocks:
        return (int(keys[-1]),) if len(keys) else ()
    ends = [n_blocks << i for i in range(MOST_DOUBLINGS + 1) if n_blocks << i <= len(keys)]
    return tuple(int(keys[end - 1]) for end in ends)
