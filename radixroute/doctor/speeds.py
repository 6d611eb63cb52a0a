"""Speeds: which workers take much longer to a first token than others, by a request log. Pure.

Prompts are compared with those of about as many computed tokens, as a step costs something whatever
is in it; and only those that found nobody before them at their worker, as queues are no slowness.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

from radixroute.protos import radixroute_pb2 as pb

ENOUGH: Final = 5  # prompts of a size, on either side
_WHOLE: Final = ("stop", "length")
NS_PER_MS: Final = 1e6


@dataclass(frozen=True, slots=True)
class Pace:
    """One worker beside the others, over prompts that were alone there."""

    requests: int
    ratio: float  # of the times to a first token of as many computed tokens: its own by the others'
    first_token_ms: float  # median


def paces_of(log: Sequence[pb.EndedRequest]) -> Mapping[str, Pace]:
    """By worker; without those that nobody can be compared with."""
    times: dict[int, dict[str, list[float]]] = {}  # by size, then by worker: milliseconds
    for one in _alone(log):
        size = max(1, one.prompt_tokens - one.cached_tokens).bit_length()
        taken_ms = (one.first_token_ns - one.dispatched_ns) / NS_PER_MS
        times.setdefault(size, {}).setdefault(one.worker_id, []).append(taken_ms)
    ratios: dict[str, list[float]] = {}
    taken: dict[str, list[float]] = {}
    for by_worker in times.values():
        for worker_id, own in by_worker.items():
            others = [one for other, ms in by_worker.items() if other != worker_id for one in ms]
            if min(len(own), len(others)) < ENOUGH:
                continue
            ratio = median(own) / max(1e-6, median(others))
            ratios.setdefault(worker_id, []).extend([ratio] * len(own))
            taken.setdefault(worker_id, []).extend(own)
    return {
        worker_id: Pace(len(found), median(found), median(taken[worker_id]))
        for worker_id, found in ratios.items()
    }


def _alone(log: Sequence[pb.EndedRequest]) -> Iterator[pb.EndedRequest]:
    """Sent to a worker that had no other prompt without a first token."""
    begun = [one for one in log if one.HasField("dispatched_ns") and one.HasField("first_token_ns")]
    busy_until: dict[str, int] = {}
    for one in sorted(begun, key=lambda one: one.dispatched_ns):
        until = busy_until.get(one.worker_id, 0)
        busy_until[one.worker_id] = max(until, one.first_token_ns)
        if until <= one.dispatched_ns and one.outcome in _WHOLE:
            yield one
