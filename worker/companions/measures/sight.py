"""Sight: one moment of a companion, for its metrics page. Cheap: it is taken in the loop."""

import time
from collections import Counter

from radixroute.worker.companions.cache.believed import BeliefCounters
from radixroute.worker.companions.calls import Calls
from radixroute.worker.companions.dialects.dialect import RankNumbers
from radixroute.worker.companions.health import Vitals
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.measures.counters import CompanionCounters
from radixroute.worker.companions.measures.metrics import CompanionSight, RankSight
from radixroute.worker.companions.ranks import Ranks


def sight_of(
    joined: Joined | None,
    ranks: Ranks | None,
    vitals: Vitals,
    counters: CompanionCounters,
    calls: Calls,
) -> CompanionSight:
    """None: it has not joined yet."""
    followers = [] if ranks is None else ranks.followers
    drops: Counter[str] = Counter()
    for follower in followers:
        drops.update(follower.drops)
    return CompanionSight(
        kind="" if joined is None else joined.statement.kind,
        version="" if joined is None else joined.statement.version,
        ends=dict(counters.ends),
        statuses=dict(counters.statuses),
        errors_in_a_row=counters.errors_in_a_row,
        output_tokens=counters.output_tokens,
        cached_tokens=counters.cached_tokens,
        passed_bytes=counters.passed_bytes,
        looks=vitals.looks,
        still_s=_still_s(vitals, calls),
        failed_looks=vitals.failed_looks,
        told_looks=counters.told_looks,
        crowded_looks=counters.crowded_looks,
        queued_looks=counters.queued_looks,
        most_running=counters.most_running,
        long_answers=calls.long_answers,
        lumps=calls.lumps,
        events=counters.events,
        event_batches=sum(follower.batches for follower in followers),
        missed_batches=sum(follower.missed for follower in followers),
        gaps=sum(follower.gaps for follower in followers),
        unmended_gaps=sum(follower.unmended for follower in followers),
        link_breaks=sum(follower.breaks for follower in followers),
        drops=dict(drops),
        belief=_belief(ranks),
        ranks=_ranks(ranks, vitals),
    )


def _still_s(vitals: Vitals, calls: Calls) -> float:
    """What waits for slow clients alone is nothing to do."""
    is_paused = len(calls) > 0 and not calls.busy_ranks
    return 0.0 if is_paused else vitals.still_ns(time.monotonic_ns()) / 1e9


def _belief(ranks: Ranks | None) -> BeliefCounters:
    every = [] if ranks is None else [one.believed.counters for one in ranks.caches if one.believed]
    return BeliefCounters(
        stored=sum(one.stored for one in every),
        removed=sum(one.removed for one in every),
        told_less=sum(one.told_less for one in every),
        told_more=sum(one.told_more for one in every),
    )


def _ranks(ranks: Ranks | None, vitals: Vitals) -> tuple[RankSight, ...]:
    told = vitals.latest.ranks
    return tuple(
        RankSight(
            rank=rank,
            held_blocks=cache.mirror.n_blocks,
            room_blocks=0 if cache.believed is None else cache.believed.room,
            told=told[rank] if rank < len(told) else RankNumbers(),
        )
        for rank, cache in enumerate([] if ranks is None else ranks.caches)
    )
