"""Session ends: which requests of a trace say that they are the last of their session.

A session here is a chain of requests, each of which goes on where a whole earlier prompt ends; so
chats and agents' threads are found in traces that name no session. Prompts of fewer than two blocks
say nothing: many begin so. Pure; the same seed gives the same ends.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.replay.errors import InvalidShape
from radixroute.replay.traces.trace import Trace, prefixes

_LEAST_BLOCKS = 2


@dataclass(frozen=True, slots=True)
class SessionEnds:
    """Shares, 0 to 1."""

    told: float = 0.0  # of sessions, whose last request says that it is
    wrong: float = 0.0  # of requests that others go on from, which say so, too

    def __post_init__(self) -> None:
        for name in ("told", "wrong"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InvalidShape(
                    f"a share of sessions that tell their end is 0 to 1, not {getattr(self, name)}"
                )


def session_ends(trace: Trace, ends: SessionEnds, seed: int) -> Numbers | None:
    """By request: how many its session has had, where it says that it is the last; else 0.

    None where nobody says so. O(blocks).
    """
    if not (ends.told or ends.wrong):
        return None
    first, turn, is_followed = _chains(trace)
    rng = np.random.Generator(np.random.PCG64(seed))
    of_session, of_request = rng.random((2, len(trace)))
    tells = np.where(is_followed, of_request < ends.wrong, of_session[first] < ends.told)
    return np.where(tells, turn, 0)


def _chains(trace: Trace) -> tuple[Numbers, Numbers, NDArray[np.bool_]]:
    """Of each request the first of its session, its place there from 1 (0: it has none), and
    whether another goes on from it."""
    numbered = prefixes(trace, trace.block_size)
    n = len(trace)
    first = np.arange(n, dtype=np.int64)
    turn, is_followed = np.zeros(n, np.int64), np.zeros(n, np.bool_)
    ends: dict[int, int] = {}  # the last request whose whole prompt a prefix is
    for request in range(n):
        own = numbered.of(request).tolist()
        if len(own) < _LEAST_BLOCKS:
            continue
        turn[request] = 1
        for node in reversed(own):
            before = ends.get(node)
            if before is not None:
                first[request], turn[request] = first[before], turn[before] + 1
                is_followed[before] = True
                break
        ends[own[-1]] = request
    return first, turn, is_followed
