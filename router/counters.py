"""Named counters: every drop and refusal has one.

Owns the numbers; the names are a closed set so that a report always shows all of them, zeros too.
"""

from enum import StrEnum


class Count(StrEnum):
    """What is counted. Past tense: it happened."""

    REQUESTS_ACCEPTED = "requests_accepted"
    REQUESTS_FINISHED = "requests_finished"
    REQUESTS_FAILED = "requests_failed"
    REQUESTS_ABORTED = "requests_aborted_by_client"
    CLIENTS_UNREAD = "requests_given_up_unread"
    REQUESTS_REJECTED = "requests_rejected"
    REQUESTS_TOO_LONG = "requests_refused_too_long"  # among these: more than the model takes
    REQUESTS_QUEUED = "requests_waited_for_a_worker"
    REQUESTS_RESUMED = "requests_resumed"
    STREAMS_RESUMED = "streams_resumed_by_clients"
    STREAMS_SUPERSEDED = "streams_ended_by_a_later_resume"
    REQUESTS_RETRIED = "requests_retried"  # after an error of a live worker
    REQUESTS_SENT_BACK = "requests_sent_back_by_full_workers"
    QUEUE_OVERFLOWED = "requests_refused_queue_full"
    # Among these, by the setting that is reached.
    HOUSE_FULL = "requests_refused_by_max_in_flight"
    HOUSE_FULL_OF_BYTES = "requests_refused_by_max_in_flight_bytes"
    HOUSE_FULL_OF_TOKENS = "requests_refused_by_max_in_flight_tokens"
    WAITING_FULL = "requests_refused_by_max_waiting"
    WAITING_FULL_OF_TOKENS = "requests_refused_by_max_waiting_tokens"
    NO_WORKERS = "requests_refused_no_workers"
    REFUSED_DRAINING = "requests_refused_draining"
    DEADLINES_PASSED = "requests_past_deadline"
    DEADLINES_HOPELESS = "requests_refused_hopeless_deadline"
    DEATHS_EXHAUSTED = "requests_failed_after_two_deaths"
    WORKER_ERRORS = "requests_failed_by_worker"
    NOT_RESUMABLE = "requests_not_resumable"
    WORKER_REFUSALS = "requests_refused_by_worker"
    BREAKERS_OPENED = "breakers_opened"
    FINISHES_SYNTHESISED = "finishes_synthesised"
    WORKERS_DIED = "workers_died"
    WORKERS_SUSPECTED = "workers_suspected"
    JOINS_ACCEPTED = "joins_accepted"
    JOINS_REFUSED = "joins_refused"
    CONNECTS_FAILED = "connects_failed"
    DELTAS_FENCED = "deltas_dropped_old_attempt"
    DELTAS_DUPLICATE = "deltas_dropped_duplicate"
    DELTAS_MISPLACED = "deltas_dropped_not_contiguous"
    ATTEMPTS_INQUIRED = "attempts_asked_for"  # a heartbeat did not count all of their worker
    ATTEMPTS_LOST = "attempts_lost_by_workers"  # asked for, and their worker had them no more
    REPORTS_UNKNOWN = "reports_dropped_unknown_worker"
    LEASES_GRANTED = "leases_granted"
    LEASES_USED = "leases_used"  # and their requests ended
    LEASES_LAPSED = "leases_lapsed"
    EXPECTED_LAPSED = "expected_blocks_lapsed"
    REPLICAS_MADE = "replicas_of_hot_prefixes"
    REPLICA_ACCOUNTS_FORGOTTEN = "replica_accounts_forgotten"  # of prefixes that lost least lately
    LEARNED_LAPSED = "learned_blocks_lapsed"
    LEARNED_FORGOTTEN = "learned_blocks_forgotten"  # for want of room
    TICKS_LATE = "ticks_late"
    LOOP_LAGGED = "loop_lag_over_20ms"
    EVENTS_MALFORMED = "event_items_malformed"
    EVENTS_UNKNOWN_HOLDER = "event_items_dropped_unknown_worker"
    REMOVALS_UNKNOWN = "index_removals_unknown"
    BLOCKS_FORGOTTEN = "index_blocks_forgotten"  # the byte budget was full
    COPIES_UNCOUNTED = (
        "index_copies_uncounted"  # more of a block than are counted: held until a clear
    )
    PARENT_CONFLICTS = "index_parent_conflicts"  # events gave a block two parents
    PROMPT_READERS_LOST = "prompt_readers_lost"  # processes that ended while they read
    PIECES_REUSED = "prompt_pieces_reused"  # of prompts: tokenised before
    PIECE_TOKENS_REUSED = "prompt_tokens_reused"  # theirs
    PIECES_ADDED = "prompt_pieces_added"  # to what is remembered
    PIECES_EVICTED = "prompt_pieces_evicted"  # for want of room
    PIECES_LAPSED = "prompt_pieces_lapsed"  # nobody asked for them for long
    SESSIONS_ENDED = "sessions_told_over"  # by their clients, with the last request
    FIELDS_DROPPED = "http_fields_dropped"  # that reach into an engine
    VERBATIM = "verbatim_requests"  # for engines that understand more of them
    VERBATIM_RENDERED = "verbatim_requests_rendered"  # of these: an engine told their tokens
    VERBATIM_UNREAD = "verbatim_requests_unread"  # of these: sent by load alone
    HTTP_MALFORMED = "http_requests_malformed"
    HTTP_TOO_LARGE = "http_requests_too_large"
    HTTP_TOO_SLOW = "http_requests_too_slow"
    HTTP_TOO_MANY = "http_connections_too_many"
    HTTP_HEADS_EARLY = "http_heads_early"  # sent before there was anything to say
    KEYS_REFUSED = "requests_without_a_known_key"  # at any door
    SENDS_DROPPED = "sends_dropped_no_session"
    REPORTS_AUDITED = "audit_reports_judged"
    REPORTS_UNAUDITED = "audit_reports_not_judged"
    AUDIT_TOLD_LESS = "audit_reports_told_less"  # cached than their worker's events say
    AUDIT_TOLD_MORE = "audit_reports_told_more"
    CREDIT_LOST = "audit_credit_lost"
    CREDIT_RETURNED = "audit_credit_returned"


class Counters:
    """Counts by name."""

    def __init__(self) -> None:
        self._counts = dict.fromkeys(Count, 0)

    def add(self, name: Count, n: int = 1) -> None:
        self._counts[name] += n

    def __getitem__(self, name: Count) -> int:
        return self._counts[name]

    def as_dict(self) -> dict[str, int]:
        return {name.value: n for name, n in self._counts.items()}
