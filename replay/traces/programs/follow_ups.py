"""Follow-ups of a trace: who comes when others have ended.

Owns who still waits for whom. No clock: whoever replays says what ended and when.
"""

from collections.abc import Iterator

import numpy as np

from radixroute.replay.traces.trace import Trace


class FollowUps:
    """Of one replay of one trace. False when nobody waits for anybody any more."""

    def __init__(self, trace: Trace) -> None:
        self._followers: dict[int, list[int]] = {}
        for request in np.flatnonzero(trace.after >= 0).tolist():
            self._followers.setdefault(int(trace.after[request]), []).append(request)
        # Of those that wait for several: how many have not ended, and the last end so far.
        self._left = {request: 1 + len(others) for request, others in trace.joined.items()}
        self._last_ns = dict.fromkeys(self._left, 0)
        for request, others in trace.joined.items():
            for other in others:
                self._followers.setdefault(other, []).append(request)

    def __bool__(self) -> bool:
        return bool(self._followers)

    def ended(self, request: int, now_ns: int) -> Iterator[tuple[int, int]]:
        """Those that waited for it and now for nobody else, each with the end from which its delay
        counts: the last of those it waited for."""
        for follower in self._followers.pop(request, ()):
            if follower not in self._left:
                yield follower, now_ns
                continue
            self._left[follower] -= 1
            self._last_ns[follower] = max(self._last_ns[follower], now_ns)
            if not self._left[follower]:
                del self._left[follower]
                yield follower, self._last_ns.pop(follower)
