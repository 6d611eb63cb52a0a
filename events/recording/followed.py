"""One recorded source's streams on their way into an index, each behind a `StreamSource`.

`NativeStreams` and `ForeignStreams` are the two sorts of `Followed`. Each decodes the messages of a
recording, hands them to the rank they are for and says where its streams stand; what its streams
want goes out through `ask`, as the frames to send. Pure: times come in with the messages.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from radixroute.events.engines.engine_stream import AskReplay
from radixroute.events.engines.vllm import decode_live, decode_replay, encode_replay_request
from radixroute.events.errors import RemoteEventError
from radixroute.events.recording.recording import Channel, Message, RecordedScope, Source
from radixroute.events.session.actions import RequestResend, RequestSnapshot
from radixroute.events.session.states import StreamState
from radixroute.events.subscribe.engine_source import EngineItem, EngineReply, EngineSource
from radixroute.events.subscribe.native_source import NativeSource
from radixroute.events.subscribe.stream_source import SourceAction, WritableIndex
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
    # Of a foreign engine, all ranks together: what was not believed, by reason; events or blocks.
    dropped: Mapping[str, int] = field(default_factory=dict)


class Followed(Protocol):
    """The streams of one recorded source."""

    @property
    def source(self) -> Source: ...
    def start(self, now_ns: int) -> None: ...
    def receive(self, message: Message) -> None: ...
    def tick(self, now_ns: int) -> None: ...
    def end(self) -> None: ...
    def standings(self) -> list[Standing]: ...


class NativeStreams:
    """Our own streams: one `NativeSource` for each rank."""

    def __init__(self, source: Source, index: WritableIndex, ask: Ask) -> None:
        self.source = source
        self._index = index
        self._ask = ask
        self._by_rank = [
            NativeSource(holder, Epoch(source.epoch), index) for holder in source.holders
        ]
        self._beats: dict[Holder, Heartbeat] = {}
        self._compared: dict[Holder, tuple[Agreement, int | None]] = {}

    def start(self, now_ns: int) -> None:
        """Asks for snapshots."""
        for stream in self._by_rank:
            self._perform(stream.begin(now_ns))

    def receive(self, message: Message) -> None:
        if message.channel is Channel.REQUESTS:
            return  # asked for by these very streams
        item = _item_of(message)
        for stream in self._receivers(item):
            self._perform(stream.deliver(item, message.at_ns))
            if isinstance(item, Heartbeat) and item.epoch == self.source.epoch:
                self._beats[stream.holders[0]] = item
            self._compare(stream)

    def tick(self, now_ns: int) -> None:
        for stream in self._by_rank:
            self._perform(stream.tick(now_ns))

    def end(self) -> None:
        for stream in self._by_rank:
            stream.end()

    def standings(self) -> list[Standing]:
        return [self._standing(stream) for stream in self._by_rank]

    def _receivers(self, item: StreamItem) -> list[NativeSource]:
        """The rank it names; what names none may be meant for any."""
        if isinstance(item, Malformed | ResendDone):
            return self._by_rank
        # A rank that there is not goes to the last one, which counts it as wrong.
        return [self._by_rank[min(item.rank, len(self._by_rank) - 1)]]

    def _perform(self, wanted: Iterable[SourceAction]) -> None:
        for action in wanted:
            match action:
                case RequestResend():
                    self._ask(encode_request(ResendRequest(action.from_seq, action.to_seq)))
                case RequestSnapshot():
                    self._ask(encode_request(SnapshotRequest()))

    def _compare(self, stream: NativeSource) -> None:
        """Again after every message: a heartbeat may come before the batch it tells of."""
        (holder,) = stream.holders
        beat = self._beats.get(holder)
        if beat is None or beat.last_seq != stream.applied_seq:
            return
        agrees = beat.account == self._index.account(holder)
        self._compared[holder] = (
            Agreement.AGREES if agrees else Agreement.DIFFERS,
            beat.last_seq,
        )

    def _standing(self, stream: NativeSource) -> Standing:
        (holder,) = stream.holders
        agreement, seq = self._compared.get(holder, (Agreement.UNKNOWN, None))
        return Standing(
            holder=holder,
            epoch=self.source.epoch,
            state=stream.state,
            applied_seq=stream.applied_seq,
            gaps=stream.gaps,
            rejected=stream.rejected + stream.unknown_ranks,
            agreement=agreement,
            agreed_seq=seq,
        )


class ForeignStreams:
    """Another engine's streams: one `EngineSource`, and its replay endpoint if it has one."""

    def __init__(
        self, source: Source, index: WritableIndex, scope: RecordedScope, ask: Ask
    ) -> None:
        self.source = source
        self._ask = ask
        self._stream = EngineSource(source.holders, _scope_of(scope, source.block_size), index)
        self._asked = 0  # the number of the last request: whoever asks ends the one before

    def start(self, now_ns: int) -> None:
        """Asks for all that the engine still keeps."""
        self._perform(self._stream.begin(now_ns), now_ns)

    def receive(self, message: Message) -> None:
        if message.channel is not Channel.REQUESTS:
            item = _engine_item_of(message, self._asked)
            self._perform(self._stream.deliver(item, message.at_ns), message.at_ns)

    def tick(self, now_ns: int) -> None:
        self._perform(self._stream.tick(now_ns), now_ns)

    def end(self) -> None:
        self._stream.end()

    def standings(self) -> list[Standing]:
        stream = self._stream
        return [
            Standing(
                holder=holder,
                epoch=b"",
                state=stream.state,
                applied_seq=stream.applied_seq,
                gaps=stream.gaps,
                rejected=stream.rejected + stream.unknown_ranks,
                known_from=stream.known_from,
                dropped={reason: n for reason, n in stream.drops.items() if n},
            )
            for holder in stream.holders
        ]

    def _perform(self, wanted: Iterable[SourceAction], now_ns: int) -> None:
        for action in wanted:
            if not isinstance(action, AskReplay):
                continue
            self._asked = action.number
            if self.source.control:
                self._ask(encode_replay_request(action.from_seq))
                continue
            nothing = EngineReply(action.number, None)
            self._perform(self._stream.deliver(nothing, now_ns), now_ns)


def _item_of(message: Message) -> StreamItem:
    decode = decode_frames if message.channel is Channel.EVENTS else decode_reply
    try:
        return decode(message.frames)
    except RemoteEventError as error:
        return Malformed(str(error))


def _engine_item_of(message: Message, number: int) -> EngineItem:
    try:
        if message.channel is Channel.EVENTS:
            return decode_live(message.frames)
        return EngineReply(number, decode_replay(message.frames))
    except RemoteEventError as error:
        return Malformed(str(error))


def _scope_of(scope: RecordedScope, block_size: int) -> Scope:
    """Keys of a foreign stream are made here and compared with one another only: no secret.

    Its blocks may have another size than ours. 0: that which its stores tell.
    """
    return Scope(
        model_fingerprint=scope.model_fingerprint,
        block_size=block_size,
        kv_dtype=scope.kv_dtype,
        lora=scope.lora,
    )
