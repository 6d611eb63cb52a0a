"""Hit rates, and why they are not what they could be: evicted, spread, not believed."""

from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.kinds.streams import BLIND_POLICIES, tells_nothing
from radixroute.doctor.reuse import EVICTED, SPREAD, Reuse
from radixroute.protos import radixroute_pb2 as pb

# Fewer requests say nothing of a rate, and less reuse than that is not worth a setting.
ENOUGH_REQUESTS: Final = 20
WORTH: Final = 0.1  # of all prompt tokens
# Shares of what is reachable: a policy that looks at caches and load spreads some of it on purpose.
OF_REACHABLE: Final = 0.25
SPREAD_OF_REACHABLE: Final = 0.4


def _reuse(evidence: Evidence) -> tuple[RouterSeen, Reuse] | None:
    router = evidence.router
    if router is None or len(router.log) < ENOUGH_REQUESTS:
        return None
    if any(tells_nothing(router, one) and _has_served(router, one) for one in router.now.workers):
        return None
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
    evicted = reuse.lost(EVICTED)
    is_much = reuse.share(evicted) >= WORTH and _may_evict(router, reuse)
    if is_much and evicted >= OF_REACHABLE * reuse.reachable:
        deaths = sum(one.deaths for one in router.now.workers)
        restarts = f"; workers ended {deaths} times, which empties caches, too" if deaths else ""
        yield Seen("router", f"{reuse.said}{restarts}")


def _may_evict(router: RouterSeen, reuse: Reuse) -> bool:
    """A cache that had room for all that came lost nothing by itself."""
    workers = {one.worker_id: one for one in router.now.workers}
    for worker_id, n_blocks in reuse.blocks_by_worker:
        one = workers.get(worker_id)
        if one is None or one.deaths or not one.kv_blocks_total or n_blocks > one.kv_blocks_total:
            return True
    return False


def _spread(evidence: Evidence) -> Iterator[Seen]:
    found = _reuse(evidence)
    if found is None or _is_blind(found[0]):
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
    reuse = found[1]
    is_lost = reuse.reachable - reuse.told > max(WORTH * reuse.prompt, 0.5 * reuse.reachable)
    if is_lost and not any(True for look in (_evicted, _spread, _policy) for _ in look(evidence)):
        yield Seen("router", reuse.said)


def _index(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    n = 0 if router is None else router.count("index_blocks_forgotten")
    if n:
        yield Seen("router", f"the index forgot {n:,} blocks for want of memory")


def _pool(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    size, longest = router.now.info.block_size, router.now.info.max_model_len
    for one in router.now.workers:
        tokens = one.kv_blocks_total * size
        if one.state == "live" and 0 < tokens < longest:
            what = f"room for {tokens:,} tokens, requests may have {longest:,}"
            yield Seen(one.worker_id, what)


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
        "give workers more KV memory (--gpu-memory-utilization of vLLM, --kv-memory of ours), add "
        "workers, or try worker.eviction_policy (`radixroute replay --eviction`)",
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
        "start engines with --enable-prefix-caching and --enable-prompt-tokens-details, and see "
        "whether others use their caches, too",
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
        "raise --kv-memory (worker.kv_memory; --gpu-memory-utilization of vLLM), or lower "
        "worker.max_model_len (--max-model-len)",
        _pool,
    ),
)
