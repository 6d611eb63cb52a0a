"""Pauses: how long streams had to wait under each fault, and when a router served again.

Pure: moments on one monotonic clock come in, seconds come out.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from bench.chaos.faults import PAUSE_S, Fault
from bench.chaos.verdicts import Heard

AFTER_KILL_S = 1.0  # a stream's pause, where a process was killed
ROUTER_BACK_S = 10.0  # a router serves again, from the kill on
SLACK_S = 1.0  # above the silence itself


@dataclass(frozen=True, slots=True)
class Struck:
    """One fault that was carried out."""

    fault: Fault
    hit_s: float
    ready_s: float  # when the fleet was whole again


def pauses_by_fault(
    streams: Sequence[Heard], struck: Sequence[Struck]
) -> Mapping[Fault, Sequence[float]]:
    """Of each stream that was open when a fault hit, under that fault: its longest time without a
    message, from the hit on, of those that began before the fleet was ready again."""
    found: defaultdict[Fault, list[float]] = defaultdict(list)
    for one in struck:
        for heard in streams:
            if heard.moments and heard.moments[0] <= one.hit_s < heard.moments[-1]:
                found[one.fault].append(_longest(heard.moments, one))
    return found


def served_again_s(streams: Sequence[Heard], struck: Sequence[Struck]) -> Sequence[float]:
    """Of each kill of a router, from the kill on: the end of the longest time in which no stream
    at all got anything."""
    found = []
    for one in struck:
        if one.fault is Fault.ROUTER:
            moments = sorted({one.hit_s, *(m for heard in streams for m in _within(heard, one))})
            gaps = pairwise(moments)
            _, end_s = max(gaps, key=lambda gap: gap[1] - gap[0], default=(0.0, one.ready_s))
            found.append(end_s - one.hit_s)
    return found


def bar_s(fault: Fault, silent_after_s: float) -> float | None:
    """What a stream's pause may be in 99 of 100 cases. `silent_after_s`: a router's patience with a
    worker that says nothing; None: no bar on pauses."""
    if fault in (Fault.ENGINE, Fault.WORKER, Fault.START_HANGS, Fault.DISK_FULL):
        return AFTER_KILL_S
    stopped_s = PAUSE_S.get(fault)
    if stopped_s is None:
        return None
    return SLACK_S + (min(stopped_s, silent_after_s) if "worker" in fault else stopped_s)


def _longest(moments: Sequence[float], one: Struck) -> float:
    gaps = pairwise(moments)
    under = [(begin, end) for begin, end in gaps if end >= one.hit_s and begin < one.ready_s]
    return max(end - max(begin, one.hit_s) for begin, end in under)


def _within(heard: Heard, one: Struck) -> Iterator[float]:
    """When it got something, as long as the fault lasted and the moment after."""
    return (m for m in heard.moments[1:] if one.hit_s < m <= one.ready_s + SLACK_S)
