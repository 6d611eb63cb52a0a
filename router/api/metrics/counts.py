"""Named counters as metrics. Each `Count` stands in one row, and a row may hold several.

Those of one row are kinds of one event, of which each happening is counted as one: their sum means
something. What may be counted beside another count has a row of its own.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from radixroute.metrics.metric import Kind, Metric, Sample
from radixroute.router.api.metrics.sight import RouterSight
from radixroute.router.counters import Count


@dataclass(frozen=True, slots=True)
class Row:
    """One counter of the page."""

    name: str
    help: str
    label: str
    values: Mapping[Count, str]  # of that label; with an empty label one count alone

    def metric(self) -> Metric[RouterSight]:
        labels = (self.label,) if self.label else ()
        return Metric(self.name, Kind.COUNTER, self.help, self._read, labels=labels)

    def _read(self, seen: RouterSight) -> Iterator[Sample]:
        for count, value in self.values.items():
            yield Sample(seen.core.counters[count.value], (value,) if self.label else ())


def _one(count: Count, name: str, meaning: str) -> Row:
    return Row(name, meaning, "", {count: ""})


def _by(label: str, name: str, meaning: str, values: Mapping[Count, str]) -> Row:
    return Row(name, meaning, label, values)


COUNT_ROWS: tuple[Row, ...] = (
    # -- requests
    _one(
        Count.REQUESTS_ACCEPTED,
        "radixroute_requests_accepted_total",
        "Requests that were let in, sent on or put into the queue",
    ),
    _by(
        "outcome",
        "radixroute_requests_ended_total",
        "Requests by their end: finished, failed (those refused for want of room or time, too),"
        " aborted by their client",
        {
            Count.REQUESTS_FINISHED: "finished",
            Count.REQUESTS_FAILED: "failed",
            Count.REQUESTS_ABORTED: "aborted",
        },
    ),
    _by(
        "reason",
        "radixroute_requests_failed_total",
        "Requests that got an error, by its reason, those that a door turned away at once, too",
        {
            Count.QUEUE_OVERFLOWED: "queue_full",
            Count.NO_WORKERS: "no_workers",
            Count.REFUSED_DRAINING: "draining",
            Count.DEADLINES_PASSED: "deadline_passed",
            Count.DEADLINES_HOPELESS: "deadline_hopeless",
            Count.DEATHS_EXHAUSTED: "two_deaths",
            Count.WORKER_ERRORS: "worker_error",
            Count.NOT_RESUMABLE: "not_resumable",
            Count.WORKER_REFUSALS: "worker_refused",
        },
    ),
    _by(
        "setting",
        "radixroute_requests_without_room_total",
        "Among these as queue_full, by the setting of the router that was reached",
        {
            Count.HOUSE_FULL: "max_in_flight",
            Count.HOUSE_FULL_OF_BYTES: "max_in_flight_bytes",
            Count.HOUSE_FULL_OF_TOKENS: "max_in_flight_tokens",
            Count.WAITING_FULL: "max_waiting",
            Count.WAITING_FULL_OF_TOKENS: "max_waiting_tokens",
        },
    ),
    _one(
        Count.REQUESTS_REJECTED,
        "radixroute_requests_rejected_total",
        "Requests whose client was told to change them, by a door or by a worker",
    ),
    _one(
        Count.REQUESTS_TOO_LONG,
        "radixroute_requests_too_long_total",
        "Among these: prompts that have more tokens than the model takes",
    ),
    _one(
        Count.SESSIONS_ENDED,
        "radixroute_sessions_told_over_total",
        "Requests that are the last of their session, as their client says",
    ),
    _one(
        Count.CLIENTS_UNREAD,
        "radixroute_requests_unread_total",
        "Requests given up because their client read nothing for too long",
    ),
    _one(
        Count.REQUESTS_QUEUED,
        "radixroute_requests_waited_total",
        "Requests that waited for a worker",
    ),
    _one(
        Count.REQUESTS_RESUMED,
        "radixroute_requests_resumed_total",
        "Times a request lost its worker and went on",
    ),
    _one(
        Count.STREAMS_RESUMED,
        "radixroute_streams_resumed_total",
        "Streams that a client brought here to go on with them",
    ),
    _one(
        Count.STREAMS_SUPERSEDED,
        "radixroute_streams_superseded_total",
        "Streams that ended because their client went on with them on another call",
    ),
    _one(
        Count.REQUESTS_RETRIED,
        "radixroute_requests_retried_total",
        "Requests tried again after an error of a live worker",
    ),
    _one(
        Count.REQUESTS_SENT_BACK,
        "radixroute_requests_sent_back_total",
        "Times a full worker gave a request back",
    ),
    _one(
        Count.FINISHES_SYNTHESISED,
        "radixroute_finishes_synthesised_total",
        "Requests whose worker died owing them nothing but their finish",
    ),
    # -- leases
    _one(
        Count.LEASES_GRANTED,
        "radixroute_leases_granted_total",
        "Leases for clients that stream from a worker",
    ),
    _one(
        Count.LEASES_USED,
        "radixroute_leases_used_total",
        "Leases whose request was seen to end at its worker",
    ),
    _one(Count.LEASES_LAPSED, "radixroute_leases_lapsed_total", "Leases whose time was over"),
    # -- workers
    _by(
        "outcome",
        "radixroute_joins_total",
        "Workers that opened a session: accepted, or refused because they do not fit the fleet",
        {Count.JOINS_ACCEPTED: "accepted", Count.JOINS_REFUSED: "refused"},
    ),
    _one(
        Count.CONNECTS_FAILED,
        "radixroute_connects_failed_total",
        "Attempts to reach a worker that failed",
    ),
    _one(Count.WORKERS_DIED, "radixroute_workers_died_total", "Times a worker was lost"),
    _one(
        Count.WORKERS_SUSPECTED,
        "radixroute_workers_suspected_total",
        "Times a live worker went silent or stuck",
    ),
    _one(
        Count.BREAKERS_OPENED,
        "radixroute_breakers_opened_total",
        "Times a worker that fails was left alone",
    ),
    # -- what was dropped
    _by(
        "reason",
        "radixroute_deltas_dropped_total",
        "Outputs of workers that no client got: of an attempt that was given up, a second time,"
        " with a hole before them",
        {
            Count.DELTAS_FENCED: "old_attempt",
            Count.DELTAS_DUPLICATE: "duplicate",
            Count.DELTAS_MISPLACED: "not_contiguous",
        },
    ),
    _one(
        Count.ATTEMPTS_INQUIRED,
        "radixroute_attempts_asked_for_total",
        "Requests whose workers were asked for them, because a heartbeat did not count all of them",
    ),
    _one(
        Count.ATTEMPTS_LOST,
        "radixroute_attempts_lost_total",
        "Of these, those that their workers had no more: they lost their end",
    ),
    _one(
        Count.REPORTS_UNKNOWN,
        "radixroute_reports_dropped_total",
        "Reports of workers that are not connected",
    ),
    _one(
        Count.PROMPT_READERS_LOST,
        "radixroute_prompt_readers_lost_total",
        "Processes for giant prompts that ended while they read one; it is read once more",
    ),
    _one(
        Count.PIECES_REUSED,
        "radixroute_prompt_pieces_reused_total",
        "Pieces of prompts that were not tokenised again, since the memo had them",
    ),
    _one(
        Count.PIECE_TOKENS_REUSED,
        "radixroute_prompt_tokens_reused_total",
        "Tokens of these pieces",
    ),
    _one(
        Count.PIECES_ADDED,
        "radixroute_prompt_pieces_added_total",
        "Pieces of prompts that the memo took up",
    ),
    _by(
        "reason",
        "radixroute_prompt_pieces_forgotten_total",
        "Pieces that the memo dropped: for want of room, or since nobody asked for them for long",
        {Count.PIECES_EVICTED: "evicted", Count.PIECES_LAPSED: "lapsed"},
    ),
    _one(
        Count.HTTP_HEADS_EARLY,
        "radixroute_http_heads_early_total",
        "Streams over HTTP whose head went out while they still waited for a first token",
    ),
    _one(
        Count.FIELDS_DROPPED,
        "radixroute_http_fields_dropped_total",
        "Fields of requests over HTTP that reach into an engine and that clients may not set",
    ),
    _one(
        Count.VERBATIM,
        "radixroute_verbatim_requests_total",
        "Requests that go as they came to an engine that understands more of them",
    ),
    _one(
        Count.VERBATIM_RENDERED,
        "radixroute_verbatim_requests_rendered_total",
        "Of these, those of which an engine told the tokens before they were sent",
    ),
    _one(
        Count.VERBATIM_UNREAD,
        "radixroute_verbatim_requests_unread_total",
        "Of these, those whose prompt the router cannot read: sent by load alone, not audited",
    ),
    _by(
        "reason",
        "radixroute_http_refused_total",
        "Requests and connections over HTTP that were turned away unread, by reason: malformed, too"
        " large, too slow, too many at once",
        {
            Count.HTTP_MALFORMED: "malformed",
            Count.HTTP_TOO_LARGE: "too_large",
            Count.HTTP_TOO_SLOW: "too_slow",
            Count.HTTP_TOO_MANY: "too_many",
        },
    ),
    _one(
        Count.KEYS_REFUSED,
        "radixroute_requests_without_key_total",
        "Requests at any door without a key that is known; only where keys are asked for",
    ),
    _one(
        Count.SENDS_DROPPED,
        "radixroute_sends_dropped_total",
        "Messages to workers whose session was broken",
    ),
    _by(
        "reason",
        "radixroute_event_items_dropped_total",
        "Items of event streams that changed nothing: they make no sense, or their worker left",
        {Count.EVENTS_MALFORMED: "malformed", Count.EVENTS_UNKNOWN_HOLDER: "unknown_worker"},
    ),
    # -- what is believed of caches
    _one(
        Count.REMOVALS_UNKNOWN,
        "radixroute_index_removals_unknown_total",
        "Removed blocks the index had not",
    ),
    _one(
        Count.BLOCKS_FORGOTTEN,
        "radixroute_index_blocks_forgotten_total",
        "Blocks the index dropped because its memory was full",
    ),
    _one(
        Count.COPIES_UNCOUNTED,
        "radixroute_index_copies_uncounted_total",
        "Copies of a block beyond those that are counted; it is believed held until a clear",
    ),
    _one(
        Count.PARENT_CONFLICTS,
        "radixroute_index_parent_conflicts_total",
        "Events that gave a block a second parent",
    ),
    _one(
        Count.REPORTS_AUDITED,
        "radixroute_audit_reports_judged_total",
        "Reports of cached tokens that were compared with what their worker's events say",
    ),
    _one(
        Count.REPORTS_UNAUDITED,
        "radixroute_audit_reports_not_judged_total",
        "Reports of cached tokens that could not be compared: what was before is not known",
    ),
    _by(
        "told",
        "radixroute_audit_differences_total",
        "Reports that told less or more in the cache than their worker's events say",
        {Count.AUDIT_TOLD_LESS: "less", Count.AUDIT_TOLD_MORE: "more"},
    ),
    _one(
        Count.CREDIT_LOST,
        "radixroute_audit_credit_lost_total",
        "Times a worker's cache was believed in no longer because its reports differed",
    ),
    _one(
        Count.CREDIT_RETURNED,
        "radixroute_audit_credit_returned_total",
        "Times such a worker was believed in again",
    ),
    _one(
        Count.EXPECTED_LAPSED,
        "radixroute_expected_blocks_lapsed_total",
        "Blocks that were expected of a dispatch and never reported",
    ),
    _by(
        "reason",
        "radixroute_learned_blocks_dropped_total",
        "Blocks a policy without events believed in no longer: too old, or for want of room",
        {Count.LEARNED_LAPSED: "lapsed", Count.LEARNED_FORGOTTEN: "forgotten"},
    ),
    _one(
        Count.REPLICAS_MADE,
        "radixroute_replicas_made_total",
        "Times a hot prefix was copied to a further worker",
    ),
    _one(
        Count.REPLICA_ACCOUNTS_FORGOTTEN,
        "radixroute_replica_accounts_forgotten_total",
        "Prefixes whose losses are no longer added up, for want of room",
    ),
    # -- the router itself
    _one(
        Count.LOOP_LAGGED,
        "radixroute_loop_lags_long_total",
        "Times the event loop came back later than streams are promised, which is 20 ms",
    ),
    _one(
        Count.TICKS_LATE,
        "radixroute_ticks_late_total",
        "Times the router itself stood still for half a second",
    ),
)
COUNT_METRICS: tuple[Metric[RouterSight], ...] = tuple(row.metric() for row in COUNT_ROWS)
