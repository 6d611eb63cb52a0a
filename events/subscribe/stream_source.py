"""Stream source: the seam between event streams and the index that they change.

A source is what one endpoint, or one rank behind it, has told so far: `NativeSource` for a rank of
our own worker, `EngineSource` for another engine with all its ranks. It alone writes its holders'
part of the index and answers each input with what else is wanted. Sans I/O: callers pass `now_ns`,
decode what arrives and carry out what is wanted before the next input. The router's `EventLink` and
the follower of recordings call it, each from one thread. Its contract suite is
`tests/events/test_stream_source.py`.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeAlias, TypeVar

from radixroute.events.engines.engine_stream import AskReplay
from radixroute.events.session.actions import RequestResend, RequestSnapshot, StateChanged
from radixroute.events.session.states import StreamState
from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Event,
    LoadReport,
)
from radixroute.radix.digest import Account
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId


class WritableIndex(Protocol):
    """What streams change, and the account that a heartbeat is compared with."""

    def join(self, holder: Holder) -> None: ...
    def leave(self, holder: Holder) -> None: ...
    def clear(self, holder: Holder) -> None: ...
    def store(self, holder: Holder, parent: BlockKey | None, keys: Keys, tier: Tier) -> None: ...
    def remove(self, holder: Holder, keys: Keys, tier: Tier) -> int: ...
    def apply(self, holder: Holder, words: Keys) -> None: ...
    def account(self, holder: Holder) -> Account: ...


class StoredListener(Protocol):
    """Who is told of stored chains, in order, once the index has them."""

    def expects_blocks(self, worker_id: WorkerId) -> bool:
        """Whether `stored` would change anything for this worker: if not, no key is unpacked."""
        ...

    def stored(self, worker_id: WorkerId, keys: Keys) -> None: ...


class AppliedListener(Protocol):
    """Who is told how far the index has followed each holder, batch by batch.

    `based` after `rebuilding`, in turns; `applied` only tells of a stream that is based.
    """

    def rebuilding(self, holder: Holder) -> None:
        """From here on nobody can say which batches the index has of it."""
        ...

    def based(self, holder: Holder, next_seq: int) -> None:
        """The index is as all batches before `next_seq` have it."""
        ...

    def applied(self, holder: Holder, seq: int, events: Sequence[Event]) -> None:
        """And as batch `seq` has it: these were its events. Called for almost every batch."""
        ...

    def left(self, holder: Holder) -> None:
        """It left the index."""
        ...


class CacheWatcher(Protocol):
    """Who is told of all that a stream changes in the index, as it changes it."""

    def changed(self, holder: Holder, events: Sequence[Event], ts: float) -> None:
        """`ts`: when, as its publisher has it (`EventBatch`); 0: it does not say."""
        ...

    def cleared(self, holder: Holder) -> None:
        """The index has nothing of it now: a snapshot follows, or it left."""
        ...

    def credited(self, holder: Holder, *, is_credited: bool) -> None:
        """Whether from here on the index has what its stream tells."""
        ...


@dataclass(frozen=True, slots=True)
class LoadReported:
    """A heartbeat of this source's own epoch and rank brought this load."""

    load: LoadReport


# What a source wants of its caller. A native source never asks vLLM's replay endpoint
# (`AskReplay`), another engine's never for a resend or a snapshot, and has no load to report.
SourceAction: TypeAlias = RequestResend | RequestSnapshot | AskReplay | StateChanged | LoadReported

Item = TypeVar("Item", contravariant=True)


class StreamSource(Protocol[Item]):
    """The streams of one or more holders, which share a state. `Item` is what arrives, decoded."""

    @property
    def holders(self) -> tuple[Holder, ...]: ...

    @property
    def state(self) -> StreamState:
        """What the index knows of these holders; each change is told by a `StateChanged`."""
        ...

    @property
    def applied_seq(self) -> int | None:
        """The last batch applied; None when there is none."""
        ...

    @property
    def gaps(self) -> int:
        """Times a batch was missing, healed or not."""
        ...

    @property
    def rejected(self) -> int:
        """Items refused for what they are, those of another rank apart."""
        ...

    @property
    def unknown_ranks(self) -> int:
        """Items of a rank that is none of these holders."""
        ...

    def begin(self, now_ns: int) -> list[SourceAction]:
        """First of all, once: the holders join the index, with nothing. Raises `HolderExists`."""
        ...

    def deliver(self, item: Item, now_ns: int) -> list[SourceAction]:
        """Anything that arrived. O(blocks)."""
        ...

    def tick(self, now_ns: int) -> list[SourceAction]:
        """Call it each 100 ms or so: silence, timeouts and delayed requests are noticed here."""
        ...

    def end(self) -> None:
        """Last of all, once: the holders leave the index. A next life is another source."""
        ...

    def check(self) -> None:
        """Raises on a broken invariant. O(blocks)."""
        ...


def apply_events(
    index: WritableIndex,
    holder: Holder,
    events: Sequence[Event],
    listener: StoredListener | None = None,
) -> None:
    """What events do to an index, in order. O(blocks)."""
    if isinstance(events, PackedEvents):
        index.apply(holder, events.words)
        if listener is not None and listener.expects_blocks(holder.worker):
            for keys in events.stored():
                listener.stored(holder.worker, keys)
        return
    for event in events:
        match event:
            case BlocksStored():
                index.store(holder, event.parent, event.keys, event.tier)
                if listener is not None and listener.expects_blocks(holder.worker):
                    listener.stored(holder.worker, event.keys)
            case BlocksRemoved():
                index.remove(holder, event.keys, event.tier)
            case CacheCleared():
                index.clear(holder)
