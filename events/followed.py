"""One source's streams on their way into an index: ours through sessions, foreign ones by adapter.

`NativeStreams` and `ForeignStream` are the two sorts of `Followed`. Each owns what it knows of its
holders' streams and writes these holders' part of the index; times and messages come in, requests
go out through `ask`. Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from radixroute.events import actions as wanted
from radixroute.events.adapter import EngineAdapter
from radixroute.events.applying import apply_events
from radixroute.events.control import (
    Malformed,
    ReplayDone,
    ReplayRequest,
    SnapshotRequest,
    StreamItem,
    decode_reply,
)
from radixroute.events.errors import RemoteEventError
from radixroute.events.foreign import ForeignStored
from radixroute.events.native import decode_frames
from radixroute.events.recording import Channel, Message, RecordedScope, Source
from radixroute.events.records import Epoch, Heartbeat
from radixroute.events.session import StreamSession
from radixroute.events.states import StreamState
from radixroute.events.vllm import decode_live
from radixroute.radix.ids import Holder
from radixroute.radix.index import PrefixIndex
from radixroute.radix.scope import Scope

Ask = Callable[[ReplayRequest | SnapshotRequest], None]


class Agreement(Enum):
    """What the last comparable heartbeat said of the account of what was applied."""

    UNKNOWN = "not compared"
    AGREES = "agrees"
    DIFFERS = "differs"


@dataclass(frozen=True, slots=True)
class Standing:
    """Where one holder's stream stands."""

    holder: Holder
    epoch: bytes
    state: StreamState
    applied_seq: int | None
    gaps: int  # times a batch was missing, healed or not
    rejected: int  # messages refused for what they are
    agreement: Agreement = Agreement.UNKNOWN
    agreed_seq: int | None = None  # the batch after which it was compared; None: before the first


class Followed(Protocol):
    """The streams of one source."""

    @property
    def source(self) -> Source: ...
    def start(self, now_ns: int) -> None: ...
    def receive(self, message: Message) -> None: ...
    def tick(self, now_ns: int) -> None: ...
    def standings(self) -> list[Standing]: ...


class NativeStreams:
    """Our own streams: one session for each rank. The index has its holders joined."""

    def __init__(self, source: Source, index: PrefixIndex, ask: Ask) -> None:
        self.source = source
        self._index = index
        self._ask = ask
        self._holders = source.holders
        self._sessions = {
            holder: StreamSession(partial(index.account, holder), holder.rank)
            for holder in self._holders
        }
        self._beats: dict[Holder, Heartbeat] = {}
        self._compared: dict[Holder, tuple[Agreement, int | None]] = {}

    def start(self, now_ns: int) -> None:
        """The epoch is confirmed: asks for snapshots."""
        for holder, session in self._sessions.items():
            self._perform(holder, session.confirm_epoch(Epoch(self.source.epoch), now_ns))

    def receive(self, message: Message) -> None:
        item = _item_of(message)
        for holder in self._receivers(item):
            session = self._sessions[holder]
            self._perform(holder, session.deliver(item, message.at_ns))
            if isinstance(item, Heartbeat) and item.epoch == session.epoch:
                self._beats[holder] = item
            self._compare(holder)

    def tick(self, now_ns: int) -> None:
        for holder, session in self._sessions.items():
            self._perform(holder, session.tick(now_ns))

    def standings(self) -> list[Standing]:
        return [self._standing(holder, session) for holder, session in self._sessions.items()]

    def _receivers(self, item: StreamItem) -> list[Holder]:
        """The rank it names; what names none may be meant for any."""
        if isinstance(item, Malformed | ReplayDone):
            return list(self._holders)
        # A rank that there is not goes to the last one, whose session counts it as wrong.
        return [self._holders[min(item.rank, len(self._holders) - 1)]]

    def _perform(self, holder: Holder, actions: Iterable[wanted.Action]) -> None:
        for action in actions:
            match action:
                case wanted.Apply():
                    apply_events(self._index, holder, action.events)
                case wanted.Reset():
                    self._index.clear(holder)
                case wanted.RequestReplay():
                    self._ask(ReplayRequest(action.from_seq, action.to_seq))
                case wanted.RequestSnapshot():
                    self._ask(SnapshotRequest())
                case wanted.StateChanged():
                    pass

    def _compare(self, holder: Holder) -> None:
        """Again after every message: a heartbeat may come before the batch it tells of."""
        beat = self._beats.get(holder)
        if beat is None or beat.last_seq != self._sessions[holder].applied_seq:
            return
        agrees = beat.account == self._index.account(holder)
        self._compared[holder] = (
            Agreement.AGREES if agrees else Agreement.DIFFERS,
            beat.last_seq,
        )

    def _standing(self, holder: Holder, session: StreamSession) -> Standing:
        agreement, seq = self._compared.get(holder, (Agreement.UNKNOWN, None))
        return Standing(
            holder=holder,
            epoch=self.source.epoch,
            state=session.state,
            applied_seq=session.applied_seq,
            gaps=session.counters.gaps,
            rejected=session.counters.rejected,
            agreement=agreement,
            agreed_seq=seq,
        )


class ForeignStream:
    """A foreign engine's stream, in the order it came: it has no snapshots and no account.

    So it is never proven, and a batch that was missed is never mended: LIVE says only that none
    was missed since the recording began.
    """

    def __init__(self, source: Source, index: PrefixIndex, scope: RecordedScope) -> None:
        self.source = source
        self._index = index
        self._scope = scope
        self._adapter: EngineAdapter | None = None  # made when the block size is known
        self._holder = source.holders[0]
        self._last_seq: int | None = None
        self._gaps = 0
        self._rejected = 0

    def start(self, now_ns: int) -> None:
        """Nothing can be asked of it."""

    def receive(self, message: Message) -> None:
        if message.channel is not Channel.EVENTS:
            return
        try:
            batch = decode_live(message.frames)
        except RemoteEventError:
            self._rejected += 1
            return
        if self._last_seq is not None and batch.seq != self._last_seq + 1:
            self._gaps += 1
        self._last_seq = batch.seq
        self._rejected += batch.skipped
        for event in batch.events:
            if self._adapter is None and isinstance(event, ForeignStored) and event.block_size:
                self._adapter = EngineAdapter(_scope_of(self._scope, event.block_size))
            if self._adapter is not None:
                apply_events(self._index, self._holder, self._adapter.translate(event))

    def tick(self, now_ns: int) -> None:
        """It sends no heartbeats: silence means nothing."""

    def standings(self) -> list[Standing]:
        is_known = self._last_seq is not None
        whole = StreamState.LIVE if is_known else StreamState.SYNCING
        state = StreamState.GAP if self._gaps else whole
        return [Standing(self._holder, b"", state, self._last_seq, self._gaps, self._rejected)]


def _item_of(message: Message) -> StreamItem:
    decode = decode_frames if message.channel is Channel.EVENTS else decode_reply
    try:
        return decode(message.frames)
    except RemoteEventError as error:
        return Malformed(str(error))


def _scope_of(scope: RecordedScope, block_size: int) -> Scope:
    """Keys of a foreign stream are made here and compared with one another only: no secret."""
    return Scope(
        model_fingerprint=scope.model_fingerprint,
        block_size=block_size,
        kv_dtype=scope.kv_dtype,
        lora=scope.lora,
    )
