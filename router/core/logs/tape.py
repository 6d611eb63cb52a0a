"""Tape: what one router did, in order, for those who look on. Records alone; nobody answers.

Owns the records since somebody took them last, bounded: what finds no room is counted and left out,
whole. Written by the core's parts in the step in which they do it, so the order is that in which
things happened. A router on which nobody looks has none. Holds prompts' tokens until they are
taken: whoever takes them shows lengths and ids, never a prompt.
"""

from collections.abc import Sequence
from typing import Final, TypeAlias

import msgspec

from radixroute.events.wire.records import Event
from radixroute.radix.ids import Holder, WorkerId
from radixroute.router.messages.actions import Failure, Usage
from radixroute.router.messages.inputs import PromptFacts, RequestSpec, WorkerFacts
from radixroute.router.policy.decision import Decision

MAX_RECORDS: Final = 1 << 16
# Why an attempt ended without an answer.
DIED, FULL, FAILED = "died", "full", "failed"
LEASED = "leased"  # how a request ends whose client streams from the worker itself


class Opened(msgspec.Struct, frozen=True, gc=False):
    """A request was let in: it has one `Closed` later."""

    spec: RequestSpec
    now_ns: int


class Sent(msgspec.Struct, frozen=True, gc=False):
    """An attempt at it goes to a worker; or, with a lease, its client does."""

    request_id: str
    attempt: int
    decision: Decision
    predicted_tokens: int  # of the prompt, thought to be cached there
    now_ns: int
    seqs: tuple[int, ...] = ()  # of that worker's event streams: the next batch, as heard by now
    is_leased: bool = False


class Reported(msgspec.Struct, frozen=True, gc=False):
    """Its worker says how the prompt of an attempt was served."""

    request_id: str
    attempt: int
    worker_id: WorkerId
    facts: PromptFacts
    is_first: bool  # of this request: those after it are of resumes
    now_ns: int


class Begun(msgspec.Struct, frozen=True, gc=False):
    """The first output of an attempt came."""

    request_id: str
    attempt: int
    now_ns: int


class Lost(msgspec.Struct, frozen=True, gc=False):
    """An attempt ended without an answer; the request goes on, or a `Closed` follows."""

    request_id: str
    attempt: int
    worker_id: WorkerId
    why: str  # DIED, FULL or FAILED
    now_ns: int


class Closed(msgspec.Struct, frozen=True, gc=False):
    """The one end of a request that was let in; a lease's booking may go on."""

    spec: RequestSpec
    outcome: str  # stop, length, abort, error, leased
    failure: Failure | None  # with outcome error
    usage: Usage
    now_ns: int
    emitted: bytes | bytearray = b""  # its output's token ids, packed; of none that is verbatim


class Refused(msgspec.Struct, frozen=True, gc=False):
    """A request was not let in."""

    spec: RequestSpec
    failure: Failure
    now_ns: int


class WorkerJoined(msgspec.Struct, frozen=True, gc=False):
    """A session with it is open."""

    facts: WorkerFacts
    now_ns: int


class WorkerLost(msgspec.Struct, frozen=True, gc=False):
    """Its session is over, or it left in order."""

    worker_id: WorkerId
    reason: str
    now_ns: int


class CacheChanged(msgspec.Struct, frozen=True, gc=False):
    """Blocks entered or left a cache, as its event stream tells."""

    holder: Holder
    events: Sequence[Event]
    ts: float  # Unix seconds at the worker; 0: it does not say
    now_ns: int  # when it was heard here


class CacheCleared(msgspec.Struct, frozen=True, gc=False):
    """Nothing is known to be there now: what is comes after, or it left."""

    holder: Holder
    now_ns: int


class CacheCredited(msgspec.Struct, frozen=True, gc=False):
    """Whether, from here on, what is told of a cache is all there is to know."""

    holder: Holder
    is_credited: bool
    now_ns: int


Record: TypeAlias = (
    Opened
    | Sent
    | Reported
    | Begun
    | Lost
    | Closed
    | Refused
    | WorkerJoined
    | WorkerLost
    | CacheChanged
    | CacheCleared
    | CacheCredited
)


class Tape:
    """What happened since the last `take`."""

    def __init__(self, max_records: int = MAX_RECORDS) -> None:
        self._max = max_records
        self._records: list[Record] = []
        self.n_dropped = 0  # ever

    def __len__(self) -> int:
        return len(self._records)

    def add(self, record: Record) -> None:
        if len(self._records) < self._max:
            self._records.append(record)
        else:
            self.n_dropped += 1

    def take(self) -> list[Record]:
        """All of it, in order; they are the caller's."""
        records, self._records = self._records, []
        return records
