"""One source's streams on their way into an index: ours by sessions, others by `EngineStream`.

`NativeStreams` and `ForeignStream` are the two sorts of `Followed`. Each owns what it knows of its
holders' streams and writes these holders' part of the index; times and messages come in, requests
go out through `ask`, as the frames to send. Pure.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Protocol

from radixroute.events.engines.engine_stream import ApplyTo, EngineAction, EngineStream
from radixroute.events.engines.foreign import ForeignReplayEnd
from radixroute.events.engines.vllm import decode_live, decode_replay, encode_replay_request
from radixroute.events.errors import RemoteEventError
from radixroute.events.recording.recording import Channel, Message, RecordedScope, Source
from radixroute.events.session import actions as wanted
from radixroute.events.session.states import StreamState
from radixroute.events.session.stream_session import StreamSession
from radixroute.events.subscribe.applying import apply_events
from radixroute.events.wire.control import (
    Malformed,
    ResendDone,
    ResendRequest,
    SnapshotRequest,
    StreamItem,
    decode_reply,
    encode_request,
)
from radixroute.events.wire.native import decode_frames
from radixroute.events.wire.records import Epoch, Heartbeat
from radixroute.radix.ids import Holder
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.scope import Scope

Ask = Callable[[list[bytes]], None]


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
    known_from: int | None = None  # of a foreign stream: the first batch of those known to the last


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
        if message.channel is Channel.REQUESTS:
            return  # asked for by these very sessions
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
        if isinstance(item, Malformed | ResendDone):
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
                case wanted.RequestResend():
                    self._ask(encode_request(ResendRequest(action.from_seq, action.to_seq)))
                case wanted.RequestSnapshot():
                    self._ask(encode_request(SnapshotRequest()))
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
    """A foreign engine's streams: it has no snapshots and no account.

    So they are never proven. What was missed is asked of its replay endpoint; LIVE says that no batch
    since `known_from` is missing.
    """

    def __init__(self, source: Source, index: PrefixIndex, scope: RecordedScope, ask: Ask) -> None:
        self.source = source
        self._index = index
        self._ask = ask
        self._holders = source.holders
        ranks = range(source.ranks) if source.ranks > 1 else None
        self._stream = EngineStream(_scope_of(scope), ranks)
        self._asked = 0  # the number of the last replay: whoever asks ends the one before
        self._malformed = 0

    def start(self, now_ns: int) -> None:
        """Asks for all that the engine still keeps."""
        self.tick(now_ns)

    def receive(self, message: Message) -> None:
        stream, now_ns = self._stream, message.at_ns
        try:
            if message.channel is Channel.EVENTS:
                self._perform(stream.receive(decode_live(message.frames), now_ns), now_ns)
            elif message.channel is Channel.CONTROL:
                reply = decode_replay(message.frames)
                self._perform(stream.receive_replayed(self._asked, reply, now_ns), now_ns)
        except RemoteEventError:
            self._malformed += 1

    def tick(self, now_ns: int) -> None:
        """It sends no heartbeats: silence means nothing, but a tail may be lost."""
        self._perform(self._stream.tick(now_ns), now_ns)

    def standings(self) -> list[Standing]:
        stream, counters = self._stream, self._stream.counters
        state = StreamState.GAP if not stream.is_whole else StreamState.LIVE
        return [
            Standing(
                holder=holder,
                epoch=b"",
                state=state if stream.is_begun else StreamState.SYNCING,
                applied_seq=stream.next_seq - 1 if stream.next_seq else None,
                gaps=counters.gaps,
                rejected=self._malformed + counters.skipped_events + counters.unknown_ranks,
                known_from=stream.known_from if stream.next_seq else None,
            )
            for holder in self._holders
        ]

    def _perform(self, actions: list[EngineAction], now_ns: int) -> None:
        for action in actions:
            if isinstance(action, ApplyTo):
                apply_events(self._index, self._holders[action.rank], action.events)
                continue
            self._asked = action.number
            if self.source.control:
                self._ask(encode_replay_request(action.from_seq))
                continue
            # Whom nobody can ask keeps nothing.
            nothing = self._stream.receive_replayed(action.number, ForeignReplayEnd(), now_ns)
            self._perform(nothing, now_ns)


def _item_of(message: Message) -> StreamItem:
    decode = decode_frames if message.channel is Channel.EVENTS else decode_reply
    try:
        return decode(message.frames)
    except RemoteEventError as error:
        return Malformed(str(error))


def _scope_of(scope: RecordedScope) -> Scope:
    """Keys of a foreign stream are made here and compared with one another only: no secret.

    Its blocks may have another size than ours: that of the first one stored.
    """
    return Scope(
        model_fingerprint=scope.model_fingerprint,
        block_size=0,
        kv_dtype=scope.kv_dtype,
        lora=scope.lora,
    )
