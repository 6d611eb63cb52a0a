"""Session affinity: a session stays with one worker, by rendezvous hashing with bounded loads.

Pure. Each session has an order of the workers of its own, drawn by hashes: it goes to the first one
that has not its share of the load yet. A worker that comes or goes moves only the sessions whose
first it is. Thaler and Ravishankar 1998; the bound is that of Mirrokni, Thorup and Zadimoghaddam
2018, with the router's cap as the capacity.
"""

import hashlib
from functools import lru_cache

import numpy as np

from radixroute.radix.ids import Keys, WorkerId
from radixroute.router.policy.view import Choice, Numbers, Scores, View

# splitmix64: spreads what differs in few bits over all of them.
_GAMMA = np.uint64(0x9E3779B97F4A7C15)
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_30, _27, _31 = np.uint64(30), np.uint64(27), np.uint64(31)


def session_of(session_key: str) -> int | None:
    """64 bits of what a client calls its session; None for an empty name."""
    if not session_key:
        return None
    return int.from_bytes(hashlib.blake2b(session_key.encode(), digest_size=8).digest(), "little")


def session_affinity(view: View) -> Choice:
    """The first worker in the session's order that is below the cap. O(workers log workers)."""
    order = _order(view.session, view.worker_ids)
    full = np.where(view.in_flight >= view.cap, float(len(order)), 0.0)
    scores = Scores(("order", "full"), ("places", "places"), np.stack((order, full)))
    chosen = int(scores.totals.argmin())
    if order[chosen] == 0.0:
        reason = "It is the session's worker."
    else:
        reason = "Those before it in the session's order have their share of the load."
    return Choice(chosen, reason, scores)


def _order(session: int, worker_ids: tuple[WorkerId, ...]) -> Numbers:
    """The place of each worker, shape (workers,); 0: the session's own."""
    z = _seeds(worker_ids) ^ (np.full(1, session, np.uint64) * _GAMMA)
    z = (z ^ (z >> _30)) * _MIX_1
    z = (z ^ (z >> _27)) * _MIX_2
    order = np.empty(len(z))
    order[np.argsort(z ^ (z >> _31), kind="stable")] = np.arange(len(z))
    return order


@lru_cache(maxsize=16)
def _seeds(worker_ids: tuple[WorkerId, ...]) -> Keys:
    """A hash of each worker's name, which no other worker changes."""
    names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in worker_ids]
    seeds = np.frombuffer(b"".join(names), "<u8").astype(np.uint64)
    seeds.setflags(write=False)
    return seeds
