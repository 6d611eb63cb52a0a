"""The native wire form: round trips, golden bytes, refusals. msgpack is the independent decoder."""

import msgpack
import numpy as np
import pytest

from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.wire import native
from radixroute.events.wire.control import (
    ResendDone,
    ResendRequest,
    SnapshotRequest,
    decode_reply,
    decode_request,
    encode_part,
    encode_request,
    encode_resend_done,
)
from radixroute.events.wire.epoch import epoch_from_hex, epoch_to_hex, incarnation_of, make_epoch
from radixroute.events.wire.native import decode_frames, encode_batch, encode_heartbeat
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    EventBatch,
    Heartbeat,
    LoadReport,
    SessionLoad,
    SnapshotPart,
)
from radixroute.radix.digest import Account
from radixroute.radix.ids import Tier
from tests.events.fakes import LOAD, keys, removed, stored

EPOCH = make_epoch(3, b"noncenon")
TOP = 2**64 - 1


def received(frames):
    return decode_frames(frames)


def answered(frames):
    return decode_reply(frames)


def plain(event):
    """An event as a comparable tuple."""
    if isinstance(event, CacheCleared):
        return ("C",)
    parent = (event.parent,) if isinstance(event, BlocksStored) else ()
    return (type(event).__name__, *parent, event.keys.tolist(), event.tier)


def batch(*events, seq: int = 7, rank: int = 0) -> EventBatch:
    return EventBatch(EPOCH, rank, seq, tuple(events), 1.5)


def test_a_batch_comes_back_as_it_was():
    sent = batch(
        stored(None, 1, 2, TOP),
        stored(TOP, 5, tier=Tier.DISK),
        removed(9, 1, tier=Tier.HOST),
        CacheCleared(),
        seq=2**64 - 2,
        rank=3,
    )
    got = received(encode_batch(sent))
    assert isinstance(got, EventBatch)
    assert (got.epoch, got.rank, got.seq, got.ts) == (EPOCH, 3, 2**64 - 2, 1.5)
    assert [plain(event) for event in got.events] == [plain(event) for event in sent.events]


def test_msgpack_reads_what_we_send():
    topic, seq, payload = encode_batch(batch(stored(9, 1, 2), removed(3), CacheCleared()))
    assert (topic, seq) == (b"rr1", (7).to_bytes(8, "big"))
    packed = (1).to_bytes(8, "little") + (2).to_bytes(8, "little")
    three = (3).to_bytes(8, "little")
    assert msgpack.unpackb(payload) == [
        1.5,
        [["S", 9, packed, 0], ["R", three, 0], ["C"]],
        0,
        EPOCH,
    ]


def test_golden_bytes_of_a_batch():
    payload = encode_batch(batch(stored(None, 1, 2)))[2]
    golden = (
        "94cb3ff800000000000091"  # [1.5, [
        "94a153c0c4100100000000000000020000000000000000"  # ["S", nil, bin of 1 and 2, 0]],
        "00"  # 0,
        "c41000000000000000036e6f6e63656e6f6e"  # epoch]
    )
    assert payload.hex() == golden


def test_golden_bytes_of_a_heartbeat():
    beat = Heartbeat(EPOCH, 0, None, Account(0, 0), LoadReport(2.5, 8, 1))
    topic, payload = encode_heartbeat(beat)
    assert topic == b"rr1.hb"
    assert payload.hex() == (
        "96c41000000000000000036e6f6e63656e6f6ec0000094cb400400000000000008019000"
    )


def test_a_heartbeat_carries_the_load():
    load = LoadReport(0.5, 100, 40, (SessionLoad("router-a", 12, 3, 4096, 17),), ("r1",), ("r2",))
    beat = Heartbeat(EPOCH, 1, 2**63, Account(40, TOP), load)
    assert decode_frames(encode_heartbeat(beat)) == beat


def test_decoded_keys_are_writable_and_own_their_memory():
    got = received(encode_batch(batch(stored(None, 1))))
    assert got.events[0].keys.flags.writeable
    assert got.events[0].keys.dtype == np.uint64


def test_snapshot_parts_and_control_messages_come_back_as_they_were():
    part = SnapshotPart(EPOCH, 2, None, 1, 3, (stored(4, 5, 6, tier=Tier.HOST),))
    got = answered(encode_part(part))
    assert (got.epoch, got.rank, got.seq, got.index, got.count) == (EPOCH, 2, None, 1, 3)
    assert [plain(run) for run in got.runs] == [plain(run) for run in part.runs]
    done = ResendDone(EPOCH, 5)
    assert decode_reply(encode_resend_done(done)) == done
    for request in (ResendRequest(3, 9), SnapshotRequest()):
        assert decode_request(encode_request(request)) == request
    resent = decode_reply(encode_batch(batch(stored(None, 1))))
    assert isinstance(resent, EventBatch)


def wire(ts=1.5, events=(), rank=0, epoch=EPOCH, extra=()):
    return msgpack.packb([ts, list(events), rank, epoch, *extra])


KEY = (5).to_bytes(8, "little")
REFUSED = {
    "key 0": wire(events=[["S", None, KEY + bytes(8), 0]]),
    "parent 0": wire(events=[["S", 0, KEY, 0]]),
    "a key and a half": wire(events=[["S", None, b"123456789012", 0]]),
    "unknown tier": wire(events=[["R", KEY, 3]]),
    "negative tier": wire(events=[["R", KEY, -1]]),
    "unknown tag": wire(events=[["X"]]),
    "negative parent": wire(events=[["S", -1, bytes(8), 0]]),
    "text as keys": wire(events=[["S", None, "12345678", 0]]),
    "run that repeats a key": wire(events=[["S", None, bytes(16), 0]]),
    "run that contains its parent": wire(events=[["S", 0, bytes(8), 0]]),
    "short event": wire(events=[["S", None, bytes(8)]]),
    "long event": wire(events=[["C", 1]]),
    "long batch": wire(extra=(1,)),
    "short batch": msgpack.packb([1.5, [], 0]),
    "a map": msgpack.packb({"ts": 1.5}),
    "negative rank": wire(rank=-1),
    "short epoch": wire(epoch=b"short"),
    "time that is no number": wire(ts=float("nan")),
    "trailing bytes": wire() + b"\x00",
    "nothing": b"",
    "deep nesting": b"\x91" * 100_000,
    "length bomb": b"\xdd\xff\xff\xff\xff",
    "bin bomb": b"\xc6\xff\xff\xff\xff",
    "ext": msgpack.packb([1.5, [], 0, msgpack.ExtType(1, b"x" * 16)]),
    "too many events": wire(events=[["C"]] * (native.MAX_EVENTS + 1)),
    "too big": wire(events=[["R", bytes(native.MAX_PAYLOAD_BYTES), 0]]),
}


@pytest.mark.parametrize("payload", REFUSED.values(), ids=REFUSED.keys())
def test_a_payload_that_is_not_of_the_form_is_the_peers_error(payload):
    with pytest.raises(RemoteEventError):
        decode_frames([b"rr1", bytes(8), payload])


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"rr1"],
        [b"rr1", bytes(8)],
        [b"rr1", bytes(7), wire()],
        [b"rr1", b"\xff" * 8, wire()],
        [b"rr2", bytes(8), wire()],
        [b"rr1.hb", bytes(8), wire()],
        [b"rr1.hb", wire()],
    ],
)
def test_frames_that_are_not_of_the_form_are_the_peers_error(frames):
    with pytest.raises(RemoteEventError):
        decode_frames(frames)


def test_a_heartbeat_out_of_range_is_refused():
    good = [EPOCH, 1, 2, 3, [0.0, 1, 1, []], 0]
    decode_frames([b"rr1.hb", msgpack.packb(good)])
    for place, value in (
        (1, -1),
        (1, TOP),
        (2, -1),
        (3, -1),
        (4, [float("inf"), 1, 1, []]),
        (4, [0.0, 1, 1, [["r" * 129, 0, 0, 0, 0]]]),
        (4, [0.0, 1, 1, [["r", 0, -1, 0, 0]]]),
        (5, 2**20),
    ):
        with pytest.raises(RemoteEventError):
            decode_frames([b"rr1.hb", msgpack.packb([*good[:place], value, *good[place + 1 :]])])


@pytest.mark.parametrize(
    "frames",
    [
        [],
        [b"rr1.snapshot", b""],
        [b"rr1.replay"],
        [b"rr1.replay", msgpack.packb([-1, 2])],
        [b"rr1.replay", msgpack.packb([1, TOP])],
        [b"rr1.replay", msgpack.packb([1])],
    ],
)
def test_a_request_that_is_not_of_the_form_is_refused(frames):
    with pytest.raises(RemoteEventError):
        decode_request(frames)


def test_a_snapshot_part_beyond_the_last_is_refused():
    for index, count in ((3, 3), (0, 0), (0, 1 << 17)):
        frames = [b"rr1.snap", msgpack.packb([EPOCH, 0, 1, index, count, []])]
        with pytest.raises(RemoteEventError):
            decode_reply(frames)


def test_a_reply_channel_does_not_carry_heartbeats():
    with pytest.raises(RemoteEventError):
        decode_reply(encode_heartbeat(Heartbeat(EPOCH, 0, None, Account(0, 0), LOAD)))


def test_our_own_impossible_seq_is_our_error():
    for seq in (-1, TOP):
        with pytest.raises(LocalEventError):
            encode_batch(batch(seq=seq))


def test_an_epoch_is_shown_and_read_back():
    assert epoch_from_hex(epoch_to_hex(EPOCH)) == EPOCH
    assert incarnation_of(EPOCH) == 3
    for text in ("", "zz", "00" * 15):
        with pytest.raises(RemoteEventError):
            epoch_from_hex(text)
    for incarnation, nonce in ((-1, bytes(8)), (2**64, bytes(8)), (1, b"")):
        with pytest.raises(LocalEventError):
            make_epoch(incarnation, nonce)


def test_removed_keys_may_repeat_for_two_copies():
    got = received(encode_batch(batch(BlocksRemoved(keys(4, 4)))))
    assert got.events[0].keys.tolist() == [4, 4]
