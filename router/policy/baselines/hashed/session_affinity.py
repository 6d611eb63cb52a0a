"""Session affinity: a session stays with one worker, by rendezvous hashing with bounded loads.

Each session has an order of the workers of its own, drawn by hashes: it goes to the first one that
has not its share of the load yet. A worker that comes or goes moves only the sessions whose first
it is. Thaler and Ravishankar 1998; the bound is that of Mirrokni, Thorup and Zadimoghaddam 2018,
with the same share of the load for everybody.
"""

from dataclasses import dataclass

import numpy as np

from radixroute.radix.ids import WorkerId
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.formula.hashing import beginning, drawn
from radixroute.router.policy.policy import PolicyFactory, PolicyParts
from radixroute.router.policy.snapshot import Ask, Snapshot
from radixroute.router.policy.view import Choice, Numbers, Scores, View

# A worker's share of the load, over the mean; and below so many requests nobody has it yet: a
# worker decodes eight about as fast as one.
SHARE = 1.5
LEAST_SHARE = 8


@dataclass(frozen=True, slots=True)
class Session:
    """Whose request it is."""

    number: int  # 64 bits that requests of one session share
    cap: float  # requests in flight from which on a worker has its share


def pick(view: View) -> Choice:
    """The first worker in the session's order that is below the cap. O(workers log workers)."""
    order = _order(view.own.number, view.worker_ids)
    full = np.where(view.in_flight >= view.own.cap, float(len(order)), 0.0)
    scores = Scores(("order", "full"), ("places", "places"), np.stack((order, full)))
    chosen = int(scores.totals.argmin())
    if order[chosen] == 0.0:
        reason = "It is the session's worker."
    else:
        reason = "Those before it in the session's order have their share of the load."
    return Choice(chosen, reason, scores)


def share_of(in_flight: Numbers) -> float:
    """Requests in flight from which on a worker has its share, this request counted."""
    return max(float(LEAST_SHARE), float(np.ceil(SHARE * (in_flight.sum() + 1.0) / len(in_flight))))


def made(parts: PolicyParts) -> AtOnce:
    def session(ask: Ask, snapshot: Snapshot, view: View) -> Session:
        return Session(_number(ask, snapshot), share_of(view.in_flight))

    return AtOnce(parts, pick, own=session)


POLICIES: dict[str, PolicyFactory] = {"session_affinity": made}


def _number(ask: Ask, snapshot: Snapshot) -> int:
    """As its client says, else of all whose prompts begin alike, else its own."""
    spec = ask.spec
    if spec.session is not None:
        return spec.session
    begins = beginning(spec.keys, snapshot.block_size)
    return snapshot.draw(ask) if begins is None else begins


def _order(session: int, worker_ids: tuple[WorkerId, ...]) -> Numbers:
    """The place of each worker, shape (workers,); 0: the session's own."""
    order = np.empty(len(worker_ids))
    order[np.argsort(drawn(session, worker_ids), kind="stable")] = np.arange(len(worker_ids))
    return order
