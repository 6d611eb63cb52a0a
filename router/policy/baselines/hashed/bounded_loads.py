"""Consistent hashing with bounded loads (Mirrokni, Thorup and Zadimoghaddam 2018), as gateways
have it for prompts: KubeAI's prefix hash and Dynamo's port of it.

    cap = ceil(1.25 * (requests in flight + 1) / workers)

Workers and beginnings of prompts have places on a ring. A request goes to the first worker after
its beginning that has less than `cap` in flight: none ever has more, and one always has less.

The paper is about balls and bins; what a prompt's beginning is was chosen here. KubeAI takes 100
letters and Dynamo 256 tokens, which makes one of all prompts that share a system prompt; here it is
1,024 tokens. The factor is theirs, places on the ring are 128 a worker (KubeAI: 256).
"""

from functools import lru_cache
from typing import NamedTuple

import numpy as np

from radixroute.radix.ids import Keys, WorkerId
from radixroute.radix.mixing import GAMMA, finalise
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.formula.hashing import beginning, seeds
from radixroute.router.policy.policy import PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, Numbers, Scores, View

FACTOR = 1.25
PLACES = 128
_FULL = 2.0  # more than any way around the ring
_AROUND = 2.0**64


class Bound(NamedTuple):
    """Of one request."""

    place: int  # of its beginning on the ring, 0 to 2**64 - 1
    cap: float  # requests in flight from which on a worker is full


def pick(view: View) -> Choice:
    """The first worker on the ring that is not full. O(workers)."""
    bound: Bound = view.own
    ways = np.minimum.reduce(_ring(view.worker_ids) - np.uint64(bound.place), axis=0) / _AROUND
    full = np.where(view.in_flight >= bound.cap, _FULL, 0.0)
    scores = Scores(("way", "full"), ("of the ring", "gate"), np.stack((ways, full)))
    chosen = int(scores.totals.argmin())
    if ways[chosen] == np.minimum.reduce(ways):
        reason = "It is the first on the ring after the beginning of the prompt."
    else:
        reason = "Those before it on the ring have their share of the load."
    return Choice(chosen, reason, scores)


def cap_of(in_flight: Numbers) -> float:
    """Requests that a worker may have, this one counted. `in_flight`: of all, without it."""
    return float(np.ceil(FACTOR * (in_flight.sum() + 1.0) / len(in_flight)))


def made(parts: PolicyParts) -> AtOnce:
    def bound(ask: Ask, snapshot: Snapshot, view: View) -> Bound:
        begins = beginning(ask.spec.keys, snapshot.block_size)
        return Bound(snapshot.draw(ask) if begins is None else begins, cap_of(view.in_flight))

    return AtOnce(parts, pick, own=bound)


POLICIES: dict[str, PolicyFactory] = {"bounded_loads": made}


@lru_cache(maxsize=16)
def _ring(worker_ids: tuple[WorkerId, ...]) -> Keys:
    """Places of each worker on the ring, shape (PLACES, workers)."""
    steps = np.arange(PLACES, dtype=np.uint64) * np.uint64(GAMMA)
    places = finalise(seeds(worker_ids)[None, :] ^ steps[:, None])
    places.setflags(write=False)
    return places
