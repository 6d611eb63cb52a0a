"""Claims: what a worker told of one prompt, since when that is judged, and what an audit says."""

from dataclasses import dataclass
from typing import Final, NamedTuple

from radixroute.radix.ids import Keys, WorkerId


class Mark(NamedTuple):
    """Where a worker's streams stood when a request was sent there."""

    seqs: tuple[int, ...] = ()  # the next batch of each
    # Leading blocks of its prompt that each then had; empty: its reports say when they looked.
    held: tuple[int, ...] = ()


NO_MARK: Final = Mark()


class Claim(NamedTuple):
    """What a worker tells of one prompt. Blocks unless named otherwise."""

    worker_id: WorkerId
    keys: Keys  # of the blocks that its cache could have saved
    told: int
    position: tuple[int, int] | None  # batches, and events of the next one, before it looked
    mark: Mark
    told_ns: int
    rank: int | None = None  # whose cache it speaks of; None: of several it may be any


@dataclass(frozen=True, slots=True)
class AuditRecord:
    """One worker's audit at one moment. Counts are reports."""

    has_credit: bool = True
    judged: int = 0
    differing: int = 0  # of these
    unjudged: int = 0  # nothing could be said about them
    reason: str = ""  # why it has no credit
    is_believed: bool = False  # nobody told of its cache


@dataclass(frozen=True, slots=True)
class Turn:
    """A worker lost its credit or has it back; or a snapshot did not help."""

    worker_id: WorkerId
    has_credit: bool
    reason: str
