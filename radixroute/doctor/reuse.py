"""Reuse: what a request log says of caches: how much could have been reused, and why it was not.

Reachable is what one cache without a limit would have served: leading blocks of a prompt that an
earlier request had, whose first token was out before this one was sent on. Only prompts count: what
answers leave in caches is reused on top of it. Of a request without a whole answer nobody told what
it found; what it computed others may find. Pure; O(blocks of all prompts).
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeVar

import numpy as np

from radixroute.protos import radixroute_pb2 as pb

K = TypeVar("K")
# Ends of requests that were told what of their prompts was cached.
_WHOLE: Final = ("stop", "length", "leased")


@dataclass(frozen=True, slots=True)
class Reuse:
    """Sums over a log, in prompt tokens where nothing else is said."""

    requests: int = 0  # that had a first token
    answered: int = 0  # of them, whole: those that the sums are of
    prompt: int = 0
    reachable: int = 0
    told: int = 0  # as engines told
    predicted: int = 0
    evicted: int = 0  # its own worker had computed it before, and had it no more
    spread: int = 0  # only other workers had computed it
    requests_by_worker: tuple[tuple[str, int], ...] = ()
    blocks_by_worker: tuple[tuple[str, int], ...] = ()  # different ones that came to be there
    # Requests that were sent to a worker with two prompts or more without a first token, while
    # another worker had none.
    piled: int = 0

    @property
    def lost(self) -> int:
        return self.evicted + self.spread

    def share(self, tokens: int) -> float:
        """Of all prompt tokens."""
        return tokens / self.prompt if self.prompt else 0.0


def reuse_of(log: Sequence[pb.EndedRequest], workers: Iterable[str] = ()) -> Reuse:
    """Of those that were sent to a worker and had a first token. `workers`: who could have been
    sent some, whether the log knows them or not."""
    served = sorted((one for one in log if _is_served(one)), key=lambda one: one.dispatched_ns)
    first_ns: dict[int, int] = {}  # by key: when somebody had computed it
    first_ns_at: dict[tuple[str, int], int] = {}  # the same at one worker
    answered = prompt = reachable = told = predicted = evicted = spread = 0
    for one in served:
        keys = _keys(one)
        size = one.block_size
        most = max(0, (one.prompt_tokens - 1) // size)
        anywhere = _leading(keys, most, first_ns, one.dispatched_ns)
        at = ((one.worker_id, key) for key in keys)
        here = _leading(at, anywhere, first_ns_at, one.dispatched_ns)
        cached = one.cached_tokens // size
        if one.outcome in _WHOLE:
            answered += 1
            prompt += one.prompt_tokens
            reachable += anywhere * size
            told += one.cached_tokens
            predicted += one.predicted_tokens
            evicted += max(0, here - cached) * size
            spread += max(0, anywhere - max(here, cached)) * size
        for key in keys:
            _keep_first(first_ns, key, one.first_token_ns)
            _keep_first(first_ns_at, (one.worker_id, key), one.first_token_ns)
    return Reuse(
        requests=len(served),
        answered=answered,
        prompt=prompt,
        reachable=reachable,
        told=told,
        predicted=predicted,
        evicted=evicted,
        spread=spread,
        requests_by_worker=_counted(served),
        blocks_by_worker=_blocks(served, first_ns_at),
        piled=_piled(served, workers),
    )


def _is_served(one: pb.EndedRequest) -> bool:
    is_begun = one.HasField("dispatched_ns") and one.HasField("first_token_ns")
    return bool(is_begun and one.worker_id and one.block_size)


def _keys(one: pb.EndedRequest) -> list[int]:
    keys: list[int] = np.frombuffer(one.keys, "<u8").tolist()
    return keys


def _leading(keys: Iterable[K], most: int, first_ns: dict[K, int], now_ns: int) -> int:
    """Of `keys` that somebody had by then, `most` at most."""
    n = 0
    for key in keys:
        if n >= most or first_ns.get(key, now_ns) >= now_ns:
            break
        n += 1
    return n


def _keep_first(first_ns: dict[K, int], key: K, at_ns: int) -> None:
    first_ns[key] = min(first_ns.get(key, at_ns), at_ns)


def _counted(served: Sequence[pb.EndedRequest]) -> tuple[tuple[str, int], ...]:
    counts: dict[str, int] = {}
    for one in served:
        counts[one.worker_id] = counts.get(one.worker_id, 0) + 1
    return tuple(sorted(counts.items()))


def _blocks(
    served: Sequence[pb.EndedRequest], first_ns_at: Mapping[tuple[str, int], int]
) -> tuple[tuple[str, int], ...]:
    """Of prompts, and of answers, which are all taken for different ones."""
    counts: dict[str, int] = {}
    for worker_id, _key in first_ns_at:
        counts[worker_id] = counts.get(worker_id, 0) + 1
    for one in served:
        counts[one.worker_id] = counts.get(one.worker_id, 0) + one.output_tokens // one.block_size
    return tuple(sorted(counts.items()))


def _piled(served: Sequence[pb.EndedRequest], workers: Iterable[str]) -> int:
    """`served` by dispatch. O(requests x what runs at once)."""
    begun: dict[str, list[int]] = {worker_id: [] for worker_id in workers}  # first tokens to come
    piled = 0
    for one in served:
        now_ns = one.dispatched_ns
        for worker_id, ends in begun.items():
            begun[worker_id] = [end for end in ends if end > now_ns]
        ahead = len(begun.get(one.worker_id, ()))
        piled += ahead >= 2 and any(not ends for ends in begun.values())
        begun.setdefault(one.worker_id, []).append(one.first_token_ns)
    return piled
