"""The life of an event stream as a router sees it: states, causes and the table of transitions.

Everything that can change a stream's state is in this table; a pair that is not in it is a bug of
ours and raises. `StreamSession` decides which cause has happened; the docs' diagram is this table.
"""

from enum import Enum

from radixroute.events.errors import LocalEventError


class StreamState(Enum):
    """What the index knows of a holder. Only LIVE and GAP deserve cache credit."""

    SYNCING = "syncing"  # a new epoch: nothing is known yet
    LIVE = "live"  # every batch known to exist is applied
    GAP = "gap"  # right up to a missing batch; a resend is asked for
    RESYNC = "resync"  # distrusted as a whole; a snapshot is asked for
    STALE = "stale"  # no heartbeat: whatever is known may be outdated

    @property
    def is_credited(self) -> bool:
        """Whether routing may count on this holder's blocks."""
        return self in (StreamState.LIVE, StreamState.GAP)


class Cause(Enum):
    """Why a state changes."""

    RESTARTED = "another epoch was confirmed"
    BASED = "everything resident at some seq is known"
    MISSING = "a batch is known to exist and was not received"
    MENDED = "the missing batches arrived"
    DISTRUSTED = "what is known was shown to be wrong, or cannot be mended"
    SILENT = "no heartbeat for too long"
    HEARD_UNBASED = "heartbeat after silence; nothing was known before it"
    HEARD_BEHIND = "heartbeat after silence names batches that were missed"
    HEARD_WRONG = "heartbeat after silence contradicts what is known"
    HEARD_SOUND = "heartbeat after silence confirms what is known"


_S, _C = StreamState, Cause

TRANSITIONS: dict[tuple[StreamState, Cause], StreamState] = {
    (_S.SYNCING, _C.BASED): _S.LIVE,
    (_S.SYNCING, _C.SILENT): _S.STALE,
    (_S.LIVE, _C.MISSING): _S.GAP,
    (_S.LIVE, _C.DISTRUSTED): _S.RESYNC,
    (_S.LIVE, _C.SILENT): _S.STALE,
    (_S.GAP, _C.MENDED): _S.LIVE,
    (_S.GAP, _C.DISTRUSTED): _S.RESYNC,
    (_S.GAP, _C.SILENT): _S.STALE,
    (_S.RESYNC, _C.BASED): _S.LIVE,
    (_S.RESYNC, _C.SILENT): _S.STALE,
    (_S.STALE, _C.HEARD_UNBASED): _S.SYNCING,
    (_S.STALE, _C.HEARD_BEHIND): _S.GAP,
    (_S.STALE, _C.HEARD_WRONG): _S.RESYNC,
    (_S.STALE, _C.HEARD_SOUND): _S.LIVE,
    # A worker may come back with a new epoch at any moment.
    **{(state, _C.RESTARTED): _S.SYNCING for state in StreamState},
}


def follow(state: StreamState, cause: Cause) -> StreamState:
    """The state after `cause`. Raises `LocalEventError` for a pair that cannot happen."""
    try:
        return TRANSITIONS[state, cause]
    except KeyError:
        raise LocalEventError(f"a {state.value} stream cannot meet: {cause.value}") from None
