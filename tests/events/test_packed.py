"""Packed events against the typed decoder and the index's own verbs: the same words, or none."""

import random

import msgpack
import numpy as np
import pytest

from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import decode_slowly, encode_batch
from radixroute.events.wire.packed import PackedEvents, Packer
from radixroute.events.wire.records import (
    BlocksRemoved,
    BlocksStored,
    CacheCleared,
    Event,
    EventBatch,
)
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex
from tests.parts import examples

EPOCH = make_epoch(7, b"packpack")
A, B = Holder(WorkerId("a")), Holder(WorkerId("b"))


def some_events(rng: random.Random) -> tuple[Event, ...]:
    def keys() -> np.ndarray:
        n = rng.choice((0, 1, 2, 31, 32, 40))
        return np.array([rng.getrandbits(rng.choice((7, 16, 64))) | 1 for _ in range(n)], np.uint64)

    events: list[Event] = []
    for _ in range(rng.choice((0, 1, 1, 3, 17))):
        parent = rng.choice((None, rng.getrandbits(rng.choice((6, 8, 16, 32, 64))) | 1))
        tier = rng.choice(list(Tier))
        key = None if parent is None else BlockKey(parent)
        events.append(
            rng.choice(
                (BlocksStored(key, keys(), tier), BlocksRemoved(keys(), tier), CacheCleared())
            )
        )
    return tuple(events)


def plain(event: Event) -> tuple[object, ...]:
    if isinstance(event, CacheCleared):
        return ("C",)
    parent = event.parent if isinstance(event, BlocksStored) else "R"
    return (parent, event.keys.tolist(), event.tier)


def payload_of(events: tuple[Event, ...], rank: int = 0) -> bytes:
    return encode_batch(EventBatch(EPOCH, rank, 0, events, 2.5))[2]


@pytest.mark.parametrize("rank", [0, 1, 127, 128, 300, 65536])
def test_what_we_send_is_packed_and_says_the_same(rank):
    rng, packer = random.Random(rank), Packer()
    for _ in range(200):
        events = some_events(rng)
        packed = packer.pack(payload_of(events, rank))
        assert packed is not None
        ts, got_rank, epoch, got = packed
        assert (ts, got_rank, epoch) == (2.5, rank, EPOCH)
        assert [plain(event) for event in got] == [plain(event) for event in events]
        assert len(got) == len(events)
        assert bool(got) == bool(events)
        stored = [e.keys.tolist() for e in events if isinstance(e, BlocksStored)]
        assert [keys.tolist() for keys in got.stored()] == stored


def mutated(payload: bytes, rng: random.Random) -> bytes:
    data = bytearray(payload)
    for _ in range(rng.choice((1, 1, 2, 5))):
        at = rng.randrange(len(data))
        kind = rng.randrange(4)
        if kind == 0:
            data[at] = rng.choice((0, 0x80, 0x90, 0x94, 0xC0, 0xC4, 0xC6, 0xCB, 0xCF, 0xD3, 0xDD))
        elif kind == 1:
            data[at] ^= 1 << rng.randrange(8)
        elif kind == 2:
            del data[at : at + rng.randrange(1, 9)]
        else:
            data[at:at] = rng.randbytes(rng.randrange(1, 9))
        if not data:
            break
    return bytes(data)


@examples(6_000, 20_000)
def test_any_bytes_are_packed_as_the_typed_decoder_reads_them_or_left_to_it(n_examples):
    rng, packer = random.Random(11), Packer()
    n_packed = n_left = 0
    for _ in range(n_examples):
        payload = mutated(payload_of(some_events(rng)), rng)
        packed = packer.pack(payload)
        if packed is None:
            n_left += 1
            continue
        n_packed += 1
        slow = decode_slowly(bytes(8), payload)
        assert packed[:3] == (slow.ts, slow.rank, slow.epoch)
        assert [plain(event) for event in packed[3]] == [plain(event) for event in slow.events]
    assert n_packed > n_examples / 20
    assert n_left > n_examples / 20


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        msgpack.packb([1, [], 0, EPOCH]),  # a whole number for the time: legal, unusual
        msgpack.packb([1.0, [["C"]], 0, EPOCH]) + b"\x00",
        msgpack.packb([float("inf"), [], 0, EPOCH]),
        msgpack.packb([1.0, [["S", None, bytes(8), 0]], 0, EPOCH]),
        msgpack.packb([1.0, [["S", None, b"1234567", 0]], 0, EPOCH]),
        msgpack.packb([1.0, [["R", b"12345678", 3]], 0, EPOCH]),
        msgpack.packb([1.0, [], -1, EPOCH]),
        msgpack.packb([1.0, [], 65537, EPOCH]),
    ],
)
def test_what_is_unusual_is_left_to_the_typed_decoder(payload):
    assert Packer().pack(payload) is None


def test_the_typed_decoder_reads_what_is_unusual_and_refuses_what_is_wrong():
    assert decode_slowly(bytes(8), msgpack.packb([1, [], 0, EPOCH])).ts == 1.0
    with pytest.raises(RemoteEventError):
        decode_slowly(bytes(8), msgpack.packb([1.0, [], -1, EPOCH]))


@pytest.mark.parametrize("seed", range(8))
def test_applied_at_once_or_one_by_one_the_index_is_the_same(seed):
    rng, packer = random.Random(seed), Packer()
    at_once, one_by_one = PrefixIndex(8 * MIN_BYTES), PrefixIndex(8 * MIN_BYTES)
    for index in (at_once, one_by_one):
        index.join(A)
        index.join(B)
    unknown = 0
    for _ in range(60):
        events, holder = some_events(rng), rng.choice((A, B))
        packed = packer.pack(payload_of(events))
        assert packed is not None
        at_once.apply(holder, packed[3].words)
        for event in events:
            if isinstance(event, BlocksStored):
                one_by_one.store(holder, event.parent, event.keys, event.tier)
            elif isinstance(event, BlocksRemoved):
                unknown += one_by_one.remove(holder, event.keys, event.tier)
            else:
                one_by_one.clear(holder)
        at_once.check()
        for one in (A, B):
            assert at_once.account(one) == one_by_one.account(one)
            assert at_once.n_blocks(one) == one_by_one.n_blocks(one)
            assert dumped(at_once, one) == dumped(one_by_one, one)
    assert at_once.n_unknown_removals == one_by_one.n_unknown_removals == unknown


def dumped(index: PrefixIndex, holder: Holder) -> list[tuple[int, Tier]]:
    """Copies; parents are not compared: these events contradict one another."""
    return sorted((key, run.tier) for run in index.dump(holder) for key in run.keys.tolist())


def test_packed_events_compare_by_value():
    words = np.array([3, 0, 0], np.uint64)
    assert PackedEvents(words) == PackedEvents(words.copy())
    assert hash(PackedEvents(words)) == hash(PackedEvents(words.copy()))
    assert PackedEvents(words) != PackedEvents(words[:0])
    assert plain(PackedEvents(words)[0]) == ("C",)
