"""Hit rates, and why they are not what they could be: evicted, spread, not believed."""

from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import EngineSeen, Evidence, RouterSeen
from radixroute.doctor.flags import KEEPS_PROMPTS, LENGTH, MORE_MEMORY, OURS, of_all
from radixroute.doctor.kinds.keeping import keeping_nothing, sharing_scopes
from radixroute.doctor.kinds.streams import BLIND_POLICIES, tells_nothing
from radixroute.doctor.reuse import EVICTED, SPREAD, Reuse
from radixroute.protos import radixroute_pb2 as pb

# Fewer requests say nothing of a rate, and less reuse than that is not worth a setting.
ENOUGH_REQUESTS: Final = 20
WORTH: Final = 0.1  # of all prompt tokens
# Shares of what is reachable: a policy that looks at caches and load spreads some of it on purpose.
OF_REACHABLE: Final = 0.15
SPREAD_OF_REACHABLE: Final = 0.4
TRIED: Final = "worker.eviction_policy (`radixroute replay --eviction`)"


def _reuse(evidence: Evidence) -> tuple[RouterSeen, Reuse] | None:
    router = evidence.router
    if router is None or len(router.log) < ENOUGH_REQUESTS:
        return None
    if any(tells_nothing(router, one) and _has_served(router, one) for one in router.now.workers):
        return None
    if keeping_nothing(router) or sharing_scopes(router):
        return None  # that is why, and by how much the others differ is not to be told from it
    return (router, router.reuse) if router.reuse.answered >= ENOUGH_REQUESTS else None


def _has_served(router: RouterSeen, one: pb.WorkerStatus) -> bool:
    return any(entry.worker_id == one.worker_id for entry in router.log)


def _is_blind(router: RouterSeen) -> bool:
    return router.now.info.policy in BLIND_POLICIES and len(router.now.workers) > 1


def _evicted(evidence: Evidence) -> Iterator[Seen]:
    found = _reuse(evidence)
    if found is None:
        return
    router, reuse = found
    lost = _lost_for_want_of_room(router, reuse)
    if reuse.share(lost) >= WORTH and lost >= OF_REACHABLE * reuse.reachable:
        deaths = sum(one.deaths for one in router.now.workers)
        restarts = f"; workers ended {deaths} times, which empties caches, too" if deaths else ""
        yield Seen("router", f"{_room(router, reuse)}{reuse.said}{restarts}", _more_room(router))


def _lost_for_want_of_room(router: RouterSeen, reuse: Reuse) -> float:
    """Tokens. What others had is lost to it, too, where none of them had room for all that came
    there: nobody knows that they have it still."""
    if not _may_evict(router, reuse):
        return 0.0
    is_spread = not _is_blind(router) and _are_all_overfull(router, reuse)
    return reuse.lost(EVICTED) + (reuse.lost(SPREAD) if is_spread else 0.0)


def _may_evict(router: RouterSeen, reuse: Reuse) -> bool:
    """A cache that had room for all that came lost nothing by itself."""
    workers = {one.worker_id: one for one in router.now.workers}
    for worker_id, n_blocks in reuse.blocks_by_worker:
        one = workers.get(worker_id)
        if one is None or one.deaths or not one.kv_blocks_total or n_blocks > one.kv_blocks_total:
            return True
    return False


def _are_all_overfull(router: RouterSeen, reuse: Reuse) -> bool:
    came = dict(reuse.blocks_by_worker)
    return bool(router.live) and all(
        0 < one.kv_blocks_total < came.get(one.worker_id, 0) for one in router.live
    )


def _room(router: RouterSeen, reuse: Reuse) -> str:
    """How much more came than caches have room for; empty: that is not known of all."""
    if not _are_all_overfull(router, reuse):
        return ""
    there = sum(one.kv_blocks_total for one in router.live)
    came = dict(reuse.blocks_by_worker)
    n_blocks = sum(came[one.worker_id] for one in router.live)
    return f"{n_blocks:,} different blocks came, and caches have room for {there:,}; "


def _more_room(router: RouterSeen) -> str:
    """By the flags that its workers have; empty: they are of several kinds, or say nothing."""
    flag = of_all(MORE_MEMORY, _kinds(router))
    if not flag:
        return ""
    tried = f", or try {TRIED}" if flag == MORE_MEMORY[OURS] else ""
    return f"give workers more KV memory ({flag}), add workers{tried}"


def _kinds(router: RouterSeen) -> set[str]:
    """Of the engines of those that serve, as far as they say."""
    ids = (one.worker_id for one in router.live)
    return {router.told[one].engine_kind for one in ids if one in router.told}


def _spread(evidence: Evidence) -> Iterator[Seen]:
    found = _reuse(evidence)
    if found is None or _is_blind(found[0]) or any(True for _ in _evicted(evidence)):
        return
    reuse = found[1]
    spread = reuse.lost(SPREAD)
    if reuse.share(spread) >= WORTH and spread >= SPREAD_OF_REACHABLE * reuse.reachable:
        yield Seen("router", reuse.said)


def _policy(evidence: Evidence) -> Iterator[Seen]:
    found = _reuse(evidence)
    if found is None or not _is_blind(found[0]):
        return
    router, reuse = found
    if reuse.share(reuse.reachable) >= WORTH and reuse.lost(SPREAD) >= 0.1 * reuse.reachable:
        yield Seen("router", f"policy {router.now.info.policy}; {reuse.said}")


def _below(evidence: Evidence) -> Iterator[Seen]:
    """Far below what could be, and none of the other reasons is it."""
    found = _reuse(evidence)
    if found is None:
        return
    router, reuse = found
    lost = reuse.reachable - reuse.told
    # What a policy spreads on purpose is none of it.
    is_spread = reuse.lost(SPREAD) >= 0.5 * lost
    of = SPREAD_OF_REACHABLE if is_spread else OF_REACHABLE
    is_lost = lost > max(WORTH * reuse.prompt, of * reuse.reachable)
    if is_lost and not any(True for look in (_evicted, _spread, _policy) for _ in look(evidence)):
        keeps = of_all(KEEPS_PROMPTS, _kinds(router))
        fix = f"{keeps}, and {_OTHERS}" if keeps else ""
        yield Seen("router", reuse.said, fix)


def _index(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    n = 0 if router is None else router.count("index_blocks_forgotten")
    if n:
        yield Seen("router", f"the index forgot {n:,} blocks for want of memory")


def _pool(evidence: Evidence) -> Iterator[Seen]:
    """Of workers whose engine is not seen itself: else that says so, with its own flags."""
    router = evidence.router
    if router is None:
        return
    size, longest = router.now.info.block_size, router.now.info.max_model_len
    seen = {_pool_of(one) for one in evidence.engines}
    for one in router.now.workers:
        tokens = one.kv_blocks_total * size
        if one.state == "live" and 0 < tokens < longest and tokens not in seen:
            what = f"room for {tokens:,} tokens, requests may have {longest:,}"
            kind = router.told.get(one.worker_id, pb.GetInfoResponse()).engine_kind
            flag = MORE_MEMORY.get(kind, "")
            fix = f"raise {flag}, or lower {LENGTH[kind]}" if flag else ""
            yield Seen(one.worker_id, what, fix)


def _pool_of(engine: EngineSeen) -> int:
    """Tokens; 0: it does not say."""
    said = engine.examination.statement
    return 0 if said is None else said.kv_blocks * said.block_size


_OTHERS: Final = "see whether others use their caches, too"

CACHE_CHECKS: Final = (
    Check(
        "policy_unsuited",
        Level.WARNING,
        "the policy does not look at caches, and prompts repeat",
        "what one worker has cached another computes again",
        "set --policy radix (router.policy)",
        _policy,
    ),
    Check(
        "hits_evicted",
        Level.WARNING,
        "the hit rate is far below what is reachable: caches are too small",
        "blocks that come again are evicted before they do, and are computed again",
        "give workers more KV memory (--gpu-memory-utilization of vLLM, --mem-fraction-static of "
        "SGLang, --kv-memory of ours), add workers, or try worker.eviction_policy (`radixroute "
        "replay --eviction`)",
        _evicted,
    ),
    Check(
        "hits_spread",
        Level.WARNING,
        "the hit rate is far below what is reachable: requests go where their prefix is not",
        "what one worker has cached another computes again",
        "mend first what is found of event streams and the audit; then see `radixroute explain ID` "
        "for what weighed more, and add workers where queues do",
        _spread,
    ),
    Check(
        "hits_below_reachable",
        Level.WARNING,
        "the hit rate is far below what is reachable",
        "prompts are computed again that a cache could have served, and caches have room for them",
        f"{KEEPS_PROMPTS['vllm']} (SGLang without --disable-radix-cache), and {_OTHERS}",
        _below,
    ),
    Check(
        "index_full",
        Level.WARNING,
        "the router's index is full",
        "blocks that workers hold are forgotten here: their hits are not foreseen",
        "raise router.index_bytes",
        _index,
    ),
    Check(
        "kv_pool_small",
        Level.WARNING,
        "a worker's KV pool has less room than one request may need",
        "a long request can never run there, or evicts everything",
        "raise --kv-memory (worker.kv_memory; --gpu-memory-utilization of vLLM, "
        "--mem-fraction-static of SGLang), or lower worker.max_model_len (--max-model-len, "
        "--context-length)",
        _pool,
    ),
)
