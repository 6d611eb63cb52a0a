"""What a `StreamSession` asks its caller to do, in order. Frozen values, no behaviour."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from radixroute.events.session.states import Cause, StreamState
from radixroute.events.wire.records import Event


@dataclass(frozen=True, slots=True)
class Apply:
    """Change the index by these events of this holder."""

    events: Sequence[Event]
    seq: int | None = field(default=None, compare=False)  # of their batch; None: of a snapshot
    ts: float = field(default=0.0, compare=False)  # of their batch, as `EventBatch` has it


@dataclass(frozen=True, slots=True)
class Reset:
    """Forget every block of this holder."""


@dataclass(frozen=True, slots=True)
class RequestResend:
    """Ask the publisher for batches `from_seq` to `to_seq`, both included."""

    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True)
class RequestSnapshot:
    """Ask the publisher for everything resident."""


@dataclass(frozen=True, slots=True)
class StateChanged:
    """The stream's state is another now; whether it is credited may have changed."""

    old: StreamState
    new: StreamState
    cause: Cause


Action: TypeAlias = Apply | Reset | RequestResend | RequestSnapshot | StateChanged
