"""What single engines keep of prompts: nothing, much less than the others, or for whom they must
not."""

from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.flags import KEEPS, NAMES, POOL
from radixroute.protos import radixroute_pb2 as pb

# Requests of a worker before the one that repeats them: what a pool of any use still has.
NEAR: Final = 4
ENOUGH_REPEATS: Final = 5
LEAST_BLOCKS: Final = 2  # of a prompt: what some servers keep begins later than ours
UNEVEN: Final = 4.0  # other machines may have half of the memory, or twice
ENOUGH_SCOPES: Final = 3
_WHOLE: Final = ("stop", "length")


def keeping_nothing(router: RouterSeen) -> dict[str, int]:
    """Workers whose engine says of each prompt that nothing of it was cached, though it had the
    same a moment before; and how often it had. O(blocks of all prompts)."""
    # Of whom nothing is told there is no hit rate.
    told = {one.worker_id: one for one in router.now.hits.workers}
    silent = {name for name, one in told.items() if one.requests and not one.cached_tokens}
    found = {name: _near_repeats(_served(router, name)) for name in sorted(silent)}
    return {name: n for name, n in found.items() if n >= ENOUGH_REPEATS}


def _served(router: RouterSeen, worker_id: str) -> list[pb.EndedRequest]:
    """In the order in which they were sent there; those of which somebody was told."""
    served = [
        one
        for one in router.log
        if one.worker_id == worker_id and one.outcome in _WHOLE and one.HasField("first_token_ns")
    ]
    return sorted(served, key=lambda one: one.dispatched_ns)


def _near_repeats(served: Sequence[pb.EndedRequest]) -> int:
    """0 also where any of them was told cached."""
    last: deque[tuple[int, list[int]]] = deque(maxlen=NEAR)  # first token, and keys
    n = 0
    for one in served:
        if one.cached_tokens:
            return 0
        keys: list[int] = np.frombuffer(one.keys, "<u8")[:LEAST_BLOCKS].tolist()
        can_hit = one.prompt_tokens > LEAST_BLOCKS * one.block_size
        is_known = any(known == keys and at < one.dispatched_ns for at, known in last)
        n += can_hit and is_known and len(keys) == LEAST_BLOCKS
        last.append((one.first_token_ns, keys))
    return n


def _nothing(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    for worker_id, n in {} if router is None else keeping_nothing(router).items():
        what = f"{n:,} prompts began as one that it had just answered, and it told none as cached"
        yield Seen(worker_id, what, KEEPS.get(_kind(router, worker_id), ""))


def _kind(router: RouterSeen | None, worker_id: str) -> str:
    told = pb.GetInfoResponse() if router is None else router.told.get(worker_id)
    return "" if told is None else told.engine_kind


# -- pools


@dataclass(frozen=True, slots=True)
class _Pool:
    tokens: int  # of each rank; 0: it does not say
    kind: str
    holds_one: bool  # request of any length; else that is told, and mended in the same way


def _uneven(evidence: Evidence) -> Iterator[Seen]:
    pools = _pools(evidence)
    for where, own in pools.items():
        others = [one.tokens for name, one in pools.items() if name != where and one.tokens]
        usual = median(others) if others else 0
        if own.tokens and own.holds_one and usual >= UNEVEN * own.tokens:
            what = (
                f"its KV pool has {own.tokens:,} tokens, those of the others {usual:,.0f}:"
                f" {usual / own.tokens:.0f} times as many"
            )
            fix = f"raise {POOL[own.kind]} there{_ON_PURPOSE}" if own.kind in POOL else ""
            yield Seen(where, what, fix)


def _pools(evidence: Evidence) -> dict[str, _Pool]:
    """Of workers, by their names; where there are none, of engines by their URLs."""
    router, pools = evidence.router, {}
    if router is not None and router.live:
        info = router.now.info
        for one in router.live:
            told = router.told.get(one.worker_id, pb.GetInfoResponse())
            tokens = one.kv_blocks_total * info.block_size
            holds = tokens >= info.max_model_len
            pools[one.worker_id] = _Pool(tokens // max(1, told.ranks), told.engine_kind, holds)
        return pools
    for engine in evidence.engines:
        if (said := engine.examination.statement) is not None:
            tokens = said.kv_blocks * said.block_size
            holds = tokens >= said.max_model_len
            pools[engine.url] = _Pool(tokens // max(1, len(said.places)), said.kind, holds)
    return pools


_ON_PURPOSE: Final = (
    "; where its machine has no more memory and is meant to be there, leave this out with --ignore"
)

# -- salts


def sharing_scopes(router: RouterSeen) -> dict[str, int]:
    """Workers whose engines found cached what only requests of other salts or tenants had, and how
    often: the first request of a scope, of which nothing was known to be there."""
    first: dict[int, pb.EndedRequest] = {}  # by scope
    begun = [one for one in router.log if one.HasField("first_token_ns") and one.apart]
    for one in sorted(begun, key=lambda one: one.dispatched_ns):
        first.setdefault(one.apart, one)
    counts: dict[str, int] = {}
    for one in first.values():
        is_known = one.cached_tokens < one.predicted_tokens + LEAST_BLOCKS * one.block_size
        if one.outcome in _WHOLE and one.block_size and not is_known:
            counts[one.worker_id] = counts.get(one.worker_id, 0) + 1
    return {worker_id: n for worker_id, n in counts.items() if n >= ENOUGH_SCOPES}


def _shared(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    for worker_id, n in {} if router is None else sharing_scopes(router).items():
        name = NAMES.get(_kind(router, worker_id), "engine")
        what = (
            f"for {n:,} salts or tenants the first request of each was told cached blocks, which"
            " only others' requests can have left there"
        )
        yield Seen(worker_id, what, _TAKES_SALTS.format(name))


_TAKES_SALTS: Final = (
    "start a version of that {} that takes cache_salt, and see that no proxy before it drops the "
    "field (`radixroute doctor --engine URL` tries it); until then cache_salt and tenants keep "
    "nothing apart there"
)

KEEPING_CHECKS: Final = (
    Check(
        "keeps_nothing",
        Level.ERROR,
        "an engine keeps nothing of a prompt for the next one",
        "every prompt is computed anew there, however it is routed",
        KEEPS["openai"],
        _nothing,
    ),
    Check(
        "salts_ignored",
        Level.ERROR,
        "an engine shares blocks between requests with different salts or tenants",
        "whoever measures times learns what others asked, salt or no salt; and what it tells as "
        "cached is held against its events",
        _TAKES_SALTS.format("engine"),
        _shared,
    ),
    Check(
        "pools_uneven",
        Level.WARNING,
        "a KV pool is much smaller than the others",
        "it evicts what the others keep, and long prompts wait there",
        f"raise {POOL['torch']}; {POOL['vllm']} of vLLM; {POOL['sglang']} of SGLang{_ON_PURPOSE}",
        _uneven,
    ),
)
