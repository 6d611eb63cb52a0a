"""A companion's metrics: all that its worker's page shows beside the worker's own, in one table.

`radixroute_companion_*` is what a companion knows of another's engine: what it sent there and what
came back, what the engine tells of itself, and what is believed of its cache. docs/metrics.md is
made of this table.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from radixroute.metrics.metric import Kind, Metric, Sample, Unit, by_label, one
from radixroute.worker.companions.cache.believed import BeliefCounters
from radixroute.worker.companions.dialects.dialect import RankNumbers


@dataclass(frozen=True, slots=True)
class RankSight:
    """One data-parallel rank."""

    rank: int
    held_blocks: int
    room_blocks: int  # that are believed in; 0: its events tell
    told: RankNumbers


@dataclass(frozen=True, slots=True)
class CompanionSight:
    """One moment of a companion."""

    kind: str
    version: str
    ends: Mapping[str, int]
    statuses: Mapping[str, int]
    errors_in_a_row: int
    output_tokens: int
    cached_tokens: int
    passed_bytes: int
    looks: int
    still_s: float
    failed_looks: int
    told_looks: int
    crowded_looks: int
    queued_looks: int
    most_running: int
    long_answers: int
    lumps: int
    events: int
    event_batches: int
    missed_batches: int
    gaps: int
    unmended_gaps: int
    link_breaks: int
    drops: Mapping[str, int]
    belief: BeliefCounters
    ranks: tuple[RankSight, ...]


def _counter(
    name: str, meaning: str, read: Callable[[CompanionSight], float], unit: Unit = Unit.NONE
) -> Metric[CompanionSight]:
    return Metric(name, Kind.COUNTER, meaning, lambda seen: one(read(seen)), unit)


def _ranks(
    name: str, meaning: str, read: Callable[[RankSight], float], unit: Unit = Unit.NONE
) -> Metric[CompanionSight]:
    return Metric(
        name,
        Kind.GAUGE,
        meaning,
        lambda seen: (Sample(read(rank), (str(rank.rank),)) for rank in seen.ranks),
        unit,
        ("rank",),
    )


COMPANION_METRICS: tuple[Metric[CompanionSight], ...] = (
    Metric(
        "radixroute_companion",
        Kind.GAUGE,
        "1, with the kind and version of the engine that it stands beside",
        lambda seen: (Sample(1, (seen.kind, seen.version)),),
        labels=("kind", "version"),
    ),
    by_label(
        "end",
        "radixroute_companion_attempts_total",
        "Attempts at requests by how they ended: as the engine said, cancelled by who asked, or"
        " refused without asking the engine",
        lambda seen: seen.ends.items(),
    ),
    by_label(
        "status",
        "radixroute_companion_errors_total",
        "Errors that the engine told instead of an answer, by their HTTP status",
        lambda seen: seen.statuses.items(),
    ),
    Metric(
        "radixroute_companion_errors_in_a_row",
        Kind.GAUGE,
        "Of these with a status of 500 and more, those since the last whole answer",
        lambda seen: one(seen.errors_in_a_row),
    ),
    _counter(
        "radixroute_companion_output_tokens_total",
        "Tokens of answers, those of verbatim ones as far as they can be told",
        lambda seen: seen.output_tokens,
        Unit.TOKENS,
    ),
    _counter(
        "radixroute_companion_cached_tokens_total",
        "Tokens of prompts that the engine said it had cached",
        lambda seen: seen.cached_tokens,
        Unit.TOKENS,
    ),
    _counter(
        "radixroute_companion_passed_bytes_total",
        "Bytes of verbatim answers",
        lambda seen: seen.passed_bytes,
        Unit.BYTES,
    ),
    by_label(
        "outcome",
        "radixroute_companion_looks_total",
        "Times that the engine was asked whether it is well, by what it answered",
        lambda seen: (("well", seen.looks - seen.failed_looks), ("ill", seen.failed_looks)),
    ),
    Metric(
        "radixroute_companion_engine_still_seconds",
        Kind.GAUGE,
        "For how long the engine has had requests of this companion and has made no step and no"
        " output, those included that were given up meanwhile",
        lambda seen: one(seen.still_s),
        Unit.SECONDS,
    ),
    by_label(
        "found",
        "radixroute_companion_engine_looks_total",
        "Times that the engine told how it does; of these, with more requests there than were sent"
        " by this companion, and with some that waited though most of its KV memory was free",
        lambda seen: (
            ("any", seen.told_looks),
            ("crowded", seen.crowded_looks),
            ("queued", seen.queued_looks),
        ),
    ),
    Metric(
        "radixroute_companion_engine_most_running_requests",
        Kind.GAUGE,
        "Most requests that ran in the engine at one such time",
        lambda seen: one(seen.most_running),
    ),
    by_label(
        "pace",
        "radixroute_companion_long_answers_total",
        "Answers of eight tokens or more, by whether they came all at once",
        lambda seen: (("streamed", seen.long_answers - seen.lumps), ("at_once", seen.lumps)),
    ),
    _counter(
        "radixroute_companion_events_total",
        "Cache events told on: the engine's own in our form, or what is believed of it",
        lambda seen: seen.events,
    ),
    _counter(
        "radixroute_companion_event_batches_total",
        "Batches of cache events that the engine sent",
        lambda seen: seen.event_batches,
    ),
    _counter(
        "radixroute_companion_event_batches_missed_total",
        "Batches that the engine counted and that did not arrive, those included that were asked"
        " for again",
        lambda seen: seen.missed_batches,
    ),
    _counter(
        "radixroute_companion_event_gaps_total",
        "Times that such batches were missed, whether a replay mended it or not",
        lambda seen: seen.gaps,
    ),
    _counter(
        "radixroute_companion_event_gaps_unmended_total",
        "Times that nothing mended it: what the engine held before is not believed any more",
        lambda seen: seen.unmended_gaps,
    ),
    by_label(
        "reason",
        "radixroute_companion_events_dropped_total",
        "Cache events of the engine that were not believed, blocks where the reason is about them",
        lambda seen: seen.drops.items(),
    ),
    _counter(
        "radixroute_companion_event_link_breaks_total",
        "Times that the link to the engine's events was lost, or its count began anew",
        lambda seen: seen.link_breaks,
    ),
    _ranks(
        "radixroute_companion_held_blocks",
        "Blocks that the engine holds, as it told or as is believed",
        lambda rank: rank.held_blocks,
        Unit.BLOCKS,
    ),
    _ranks(
        "radixroute_companion_believed_room_blocks",
        "Blocks that an engine which tells nothing is believed to have room for; 0 for others",
        lambda rank: rank.room_blocks,
        Unit.BLOCKS,
    ),
    by_label(
        "change",
        "radixroute_companion_believed_changes_total",
        "Blocks that began or ceased to be believed in",
        lambda seen: (("stored", seen.belief.stored), ("removed", seen.belief.removed)),
    ),
    by_label(
        "found",
        "radixroute_companion_belief_corrections_total",
        "Answers that found less or more in the engine's cache than was believed",
        lambda seen: (("less", seen.belief.told_less), ("more", seen.belief.told_more)),
    ),
    _ranks(
        "radixroute_companion_engine_running_requests",
        "Requests that run in the engine, whosever they are, as it told last",
        lambda rank: rank.told.running,
    ),
    _ranks(
        "radixroute_companion_engine_waiting_requests",
        "Requests that wait in the engine, whosever they are, as it told last",
        lambda rank: rank.told.waiting,
    ),
    _ranks(
        "radixroute_companion_engine_kv_usage",
        "Share of its blocks that running requests pin, as it told last",
        lambda rank: rank.told.kv_usage,
    ),
    _ranks(
        "radixroute_companion_engine_steps",
        "Steps that the engine has made, as it told last; 0 where it does not say",
        lambda rank: rank.told.steps or 0,
    ),
)
