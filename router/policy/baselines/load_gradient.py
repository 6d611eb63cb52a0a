"""A load gradient, the idea of PolyServe (Zhu et al., arXiv 2507.17769): the busiest worker that
still meets both goals, so that the least busy ones fall idle and could be taken away.

    first token:     queue + prefill + decoding beside it    <= TTFT_GOAL_MS
    between tokens:  a step with all who are there and this  <= ITL_GOAL_MS
    and the cache has room for all of them, grown to their whole answers
    of those who meet both the most requests in flight; where nobody does, the soonest first token

The paper serves requests of several goals, each kind on a part of the fleet of its own, and has
workers added and removed. Chosen here: one fleet and one pair of goals, which are ours, the learned
speeds in place of profiles, load as requests in flight, answers of the mean length. The paper
routes without caches; here what is cached counts in the first token, which also decides between
workers that are as busy. Shared blocks are counted for each request that has them.
"""

from collections import Counter
from math import inf
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import WorkerId
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.forecast import cheapest, expected_ttfts_ms
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.policy import Dispatched, PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, Numbers, Scores, View
from radixroute.router.workers.load import BookingId

TTFT_GOAL_MS = 1000.0
ITL_GOAL_MS = 50.0
_GATE = 1e12  # more than any load: who would miss a goal


class Room(NamedTuple):
    """Of one request."""

    needed: float  # blocks of its prompt and its answer
    free: Numbers  # blocks of each worker's cache, shape (workers,); infinite: not known


class Memory:
    """Blocks that the requests of each worker will fill."""

    def __init__(self) -> None:
        self._booked: dict[BookingId, tuple[WorkerId, float]] = {}
        self._n: Counter[WorkerId] = Counter()  # requests
        self._free: dict[WorkerId, float] = {}  # of workers that have any

    def room(self, ask: Ask, snapshot: Snapshot, view: View) -> Room:
        tokens = ask.prompt_tokens + snapshot.expected_output(ask)
        free = np.array([self._free.get(worker_id, inf) for worker_id in view.worker_ids])
        return Room(tokens / snapshot.block_size, free)

    def book(self, dispatched: Dispatched) -> None:
        worker_id, needed = dispatched.decision.worker_id, dispatched.decision.view.own.needed
        self._booked[dispatched.booking] = worker_id, needed
        self._n[worker_id] += 1
        size = dispatched.kv_blocks or inf
        self._free[worker_id] = self._free.get(worker_id, size) - needed

    def end(self, booking: BookingId) -> None:
        worker_id, needed = self._booked.pop(booking)
        self._n[worker_id] -= 1
        self._free[worker_id] += needed
        if not self._n[worker_id]:
            del self._n[worker_id], self._free[worker_id]


def pick(view: View) -> Choice:
    """A fixed number of array operations. The order of the totals is the rule's."""
    room: Room = view.own
    ttfts, has_room = expected_ttfts_ms(view), room.needed <= room.free
    meets = _meets(view, ttfts) & has_room
    terms = np.zeros((3, len(ttfts)))
    misses, less_busy, first_token = terms
    first_token[:] = ttfts / TTFT_GOAL_MS
    if meets.any():
        busiest = np.maximum.reduce(view.in_flight[meets])
        misses[~meets] = _GATE
        less_busy[:] = np.where(meets, busiest - view.in_flight, 0.0)
        first_token *= 0.5  # below one request
        reason = "Of those who meet both goals nobody is busier."
    else:
        misses[~has_room] = _GATE
        reason = "Nobody would meet both goals: here the first token comes soonest."
    units = ("gate", "requests", "of the goal")
    scores = Scores(("misses_goal", "less_busy", "first_token"), units, terms)
    return Choice(cheapest(scores.totals, view.draw), reason, scores)


def _meets(view: View, ttfts: Numbers) -> NDArray[np.bool_]:
    """Who meets both goals."""
    table = view.table
    step_ms = table[at.STEP_BASE_MS] + table[at.MS_PER_DECODE] * (view.in_flight + 1.0)
    met: NDArray[np.bool_] = (ttfts <= TTFT_GOAL_MS) & (step_ms <= ITL_GOAL_MS)
    return met


def made(parts: PolicyParts) -> AtOnce:
    memory = Memory()
    return AtOnce(parts, pick, own=memory.room, on_dispatch=memory.book, on_settle=memory.end)


POLICIES: dict[str, PolicyFactory] = {"load_gradient": made}
