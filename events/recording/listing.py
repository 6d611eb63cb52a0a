"""A recording as entries for people: what each record says, with gaps and epoch changes marked.

Owns what must be remembered to mark them, bounded for each stream. Heartbeats are summarised: a run
of them with nothing else from that stream is one entry. Tokens are counted, never told.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from radixroute.events.engines.foreign import (
    EngineHash,
    ForeignBatch,
    ForeignRemoved,
    ForeignReplayEnd,
    ForeignStored,
)
from radixroute.events.engines.vllm import decode_live, decode_replay
from radixroute.events.errors import RemoteEventError
from radixroute.events.recording.gaps import SeqTrack
from radixroute.events.recording.reader import Numbered, RecordingReader
from radixroute.events.recording.recorded import AtEnd, AtRecord, AtTime, Point
from radixroute.events.recording.recording import (
    Channel,
    End,
    Header,
    Joined,
    Left,
    Message,
    Source,
    Wire,
)
from radixroute.events.wire.compat import decode_replay_request
from radixroute.events.wire.control import (
    ResendDone,
    SnapshotRequest,
    decode_reply,
    decode_request,
)
from radixroute.events.wire.epoch import epoch_to_hex
from radixroute.events.wire.native import decode_frames
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    Epoch,
    Event,
    EventBatch,
    Heartbeat,
    SnapshotPart,
)
from radixroute.radix.ids import Holder, Keys

Names: TypeAlias = Keys | Sequence[EngineHash]
_Place: TypeAlias = tuple[int, int]  # a record's number and its time


@dataclass(frozen=True, slots=True)
class ToldEvent:
    """One event or snapshot run. `keys` are block keys, or the hashes of a foreign engine."""

    kind: str  # stored, removed, cleared
    keys: Names = ()
    tier: str = ""
    parent: int | None = None
    n_tokens: int | None = None  # None: the wire carries none


@dataclass(frozen=True, slots=True)
class Entry:
    """What one record says, or what it shows to be wrong."""

    record: int
    at_ns: int
    source: str  # as `stream_name` says; empty: the recording itself
    kind: str  # joined, left, end, batch, asked, replayed, heartbeats, snapshot, gap, lost, ...
    seq: int | None = None
    note: str = ""
    events: tuple[ToldEvent, ...] = ()
    count: int = 1  # records summarised
    since_ns: int | None = None  # the first of them


class Listing:
    """Entries of one recording. Records go in, in order; `rest` ends it."""

    def __init__(self, header: Header) -> None:
        self._sources = list(header.sources)
        self._tracks: dict[Holder, SeqTrack] = {}
        self._epochs: dict[Holder, bytes] = {}
        self._beats: dict[Holder, Entry] = {}  # not told yet
        # Of foreign engines, whose ranks share one seq: by the first.
        self._last_live: dict[Holder, int] = {}
        self._known_then: dict[Holder, int | None] = {}  # when its replay endpoint was last asked

    def entries(self, place: Numbered) -> Iterator[Entry]:
        """What this record says; perhaps nothing yet."""
        record = place.record
        at = place.number, record.at_ns
        if isinstance(record, Message):
            yield from self._message(at, record, self._sources[record.source])
        else:
            yield from self.rest()
            yield self._milestone(at, record)

    def rest(self) -> Iterator[Entry]:
        """The heartbeats not told yet."""
        for holder in list(self._beats):
            yield from self._flush(holder)

    def _milestone(self, at: _Place, record: Joined | Left | End) -> Entry:
        match record:
            case Joined(source=source):
                self._sources.append(source)
                if source.wire is Wire.FOREIGN:
                    self._begin_life(source.holders[0])
                return Entry(*at, source.worker, "joined", note=_described(source))
            case Left(source=number):
                return Entry(*at, self._sources[number].worker, "left", note="not listed any more")
            case End(refused=refused):
                note = f"{refused} messages were too big to record" if refused else ""
                return Entry(*at, "", "end", note=note)

    def _message(self, at: _Place, record: Message, source: Source) -> Iterator[Entry]:
        is_foreign = source.wire is Wire.FOREIGN
        try:
            yield from (self._foreign if is_foreign else self._native)(at, record, source)
        except RemoteEventError as error:
            yield Entry(*at, source.worker, "malformed", note=str(error))

    def _native(self, at: _Place, record: Message, source: Source) -> Iterator[Entry]:
        if record.channel is Channel.REQUESTS:
            yield Entry(*at, source.worker, "asked", note=_asked(record.frames))
            return
        item = _item_of(record)
        if isinstance(item, ResendDone):
            note = f"all that was kept from seq {item.from_seq} on was sent"
            yield Entry(*at, source.worker, "replay end", note=note)
            return
        holder = Holder(source.holders[0].worker, item.rank)
        label = stream_name(holder)
        yield from self._epoch_change(at, holder, label, item.epoch, source)
        if isinstance(item, Heartbeat):
            yield from self._beat(at, holder, label, item)
            return
        yield from self._flush(holder)
        track = self._track(holder)
        if isinstance(item, SnapshotPart):
            yield Entry(
                *at,
                label,
                "snapshot",
                seq=item.seq,
                note=f"part {item.index + 1} of {item.count}",
                events=tuple(_told(run) for run in item.runs),
            )
            yield from _mended(at, label, track.cover(item.seq) if _is_last(item) else 0)
            return
        is_resent = record.channel is Channel.CONTROL
        if not is_resent:
            yield from _gap(at, label, track.hear(item.seq - 1))
        n_mended = track.see(item.seq)
        kind = "replayed" if is_resent else "batch"
        yield Entry(*at, label, kind, seq=item.seq, events=_events_of(item))
        yield from _mended(at, label, n_mended)

    def _foreign(self, at: _Place, record: Message, source: Source) -> Iterator[Entry]:
        holder, label = source.holders[0], source.worker
        track = self._tracks.setdefault(holder, SeqTrack(known=-1))
        if record.channel is Channel.REQUESTS:
            self._known_then[holder] = track.known
            from_seq = decode_replay_request(record.frames)
            yield Entry(*at, label, "asked", note=f"all that is kept from seq {from_seq} on")
            return
        is_live = record.channel is Channel.EVENTS
        item = decode_live(record.frames) if is_live else decode_replay(record.frames)
        if isinstance(item, ForeignReplayEnd):
            yield Entry(*at, label, "replay end", note="all that was kept was sent")
            yield from _lost(at, label, track.give_up(self._known_then.get(holder)))
            return
        if is_live:
            if item.seq <= self._last_live.get(holder, -1):
                track = self._begin_life(holder)
                yield Entry(*at, label, "epoch", note="its seq went back: another life")
            self._last_live[holder] = item.seq
        yield from _gap(at, label, track.hear(item.seq - 1))
        if not is_live:  # what comes before an oldest reply is kept nowhere
            yield from _lost(at, label, track.give_up(item.seq - 1))
        n_mended = track.see(item.seq)
        kind = "batch" if is_live else "replayed"
        yield Entry(*at, label, kind, seq=item.seq, events=_events_of(item), note=_skipped(item))
        yield from _mended(at, label, n_mended)

    def _begin_life(self, holder: Holder) -> SeqTrack:
        self._last_live.pop(holder, None)
        self._known_then.pop(holder, None)
        self._tracks[holder] = SeqTrack(known=-1)
        return self._tracks[holder]

    def _beat(self, at: _Place, holder: Holder, label: str, beat: Heartbeat) -> Iterator[Entry]:
        missing = self._track(holder).hear(-1 if beat.last_seq is None else beat.last_seq)
        if missing is not None:
            yield from self._flush(holder)
            yield from _gap(at, label, missing)
        before = self._beats.get(holder)
        load = beat.load
        note = f"{beat.account.n_copies} copies, digest {beat.account.digest:016x}"
        if load.kv_blocks_total:
            note += f", {load.kv_blocks_used} of {load.kv_blocks_total} KV blocks used"
        self._beats[holder] = Entry(
            *at,
            label,
            "heartbeats",
            seq=beat.last_seq,
            note=note,
            count=1 if before is None else before.count + 1,
            since_ns=at[1] if before is None else before.since_ns,
        )

    def _flush(self, holder: Holder) -> Iterator[Entry]:
        entry = self._beats.pop(holder, None)
        if entry is not None:
            yield entry

    def _epoch_change(
        self, at: _Place, holder: Holder, label: str, epoch: Epoch, source: Source
    ) -> Iterator[Entry]:
        before = self._epochs.get(holder)
        if epoch == before:
            return
        self._epochs[holder] = epoch
        if before is not None:
            yield from self._flush(holder)
            self._tracks.pop(holder, None)
        is_confirmed = epoch == source.epoch
        if before is not None or not is_confirmed:
            note = epoch_to_hex(epoch) + ("" if is_confirmed else ": not the confirmed one")
            yield Entry(*at, label, "epoch", note=note)

    def _track(self, holder: Holder) -> SeqTrack:
        return self._tracks.setdefault(holder, SeqTrack())


def listed(
    reader: RecordingReader, *, source: str | None, start: Point, stop: Point
) -> Iterator[Entry]:
    """Entries from `start` to `stop`, both included; of one worker or stream, or of all.

    Everything before is read all the same: what is a gap depends on it.
    """
    listing = Listing(reader.header)

    def wanted(entry: Entry) -> bool:
        names = entry.source, entry.source.partition("/")[0], f"{entry.source}/0"
        is_source = source is None or source in names
        return is_source and not is_before(start, entry.record, entry.at_ns)

    for one in reader.header.sources:
        entry = Entry(0, 0, one.worker, "joined", note=_described(one))
        if wanted(entry):
            yield entry
    for place in reader:
        if is_behind(stop, place.number, place.record.at_ns):
            break
        yield from filter(wanted, listing.entries(place))
    yield from filter(wanted, listing.rest())


def is_before(point: Point, number: int, at_ns: int) -> bool:
    """Whether a record comes before the point's own."""
    match point:
        case AtTime(ns):
            return at_ns < ns
        case AtRecord(first):
            return number < first
        case AtEnd():
            return True


def is_behind(point: Point, number: int, at_ns: int) -> bool:
    """Whether a record comes after the point's own."""
    match point:
        case AtTime(ns):
            return at_ns > ns
        case AtRecord(last):
            return number > last
        case AtEnd():
            return False


def stream_name(holder: Holder) -> str:
    """A stream as people name it: worker, or worker/rank for the ranks after the first."""
    return f"{holder.worker}/{holder.rank}" if holder.rank else str(holder.worker)


def name_of(key: int) -> str:
    """A block key, or a foreign engine's hash, as 16 hexadecimal digits."""
    return f"{int(key) % 2**64:016x}"


def _item_of(record: Message) -> EventBatch | Heartbeat | SnapshotPart | ResendDone:
    if record.channel is Channel.EVENTS:
        return decode_frames(record.frames)
    return decode_reply(record.frames)


def _events_of(batch: EventBatch | ForeignBatch) -> tuple[ToldEvent, ...]:
    return tuple(
        _told(event) if isinstance(event, BlocksStored | BlocksRemoved) else _told_foreign(event)
        for event in batch.events
    )


def _told(event: Event) -> ToldEvent:
    match event:
        case BlocksStored(parent, keys, tier):
            return ToldEvent("stored", keys, tier.name.lower(), parent)
        case BlocksRemoved(keys, tier):
            return ToldEvent("removed", keys, tier.name.lower())
        case _:
            return ToldEvent("cleared")


def _told_foreign(event: object) -> ToldEvent:
    match event:
        case ForeignStored():
            n_tokens = len(event.token_ids)
            return ToldEvent("stored", event.hashes, event.medium or "", event.parent, n_tokens)
        case ForeignRemoved():
            return ToldEvent("removed", event.hashes, event.medium or "")
        case _:
            return ToldEvent("cleared")


def _asked(frames: Sequence[bytes]) -> str:
    request = decode_request(frames)
    if isinstance(request, SnapshotRequest):
        return "a snapshot"
    return f"seq {request.from_seq} to {request.to_seq}"


def _skipped(batch: ForeignBatch) -> str:
    return f"{batch.skipped} events had no form we know" if batch.skipped else ""


def _described(source: Source) -> str:
    epoch = f"epoch {source.epoch.hex()}, " if source.epoch else ""
    streams = f"{source.ranks} streams at " if source.ranks > 1 else ""
    return f"{epoch}{streams}{source.events}"


def _is_last(part: SnapshotPart) -> bool:
    return part.index + 1 == part.count


def _gap(at: _Place, label: str, missing: range | None) -> Iterator[Entry]:
    if missing:
        note = f"{_seqs(missing)} did not arrive"
        yield Entry(*at, label, "gap", seq=missing[0], note=note)


def _lost(at: _Place, label: str, lost: range | None) -> Iterator[Entry]:
    if lost:
        note = f"{_seqs(lost)}: missing and not kept; nothing from before counts any more"
        yield Entry(*at, label, "lost", seq=lost[0], note=note)


def _seqs(some: range) -> str:
    return f"seq {some[0]}" + ("" if some[0] == some[-1] else f" to {some[-1]}")


def _mended(at: _Place, label: str, n_mended: int) -> Iterator[Entry]:
    if n_mended:
        yield Entry(*at, label, "mended", note=f"all {n_mended} missing batches are accounted for")
