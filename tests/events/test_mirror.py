"""The mirror against a plain model, and snapshots that rebuild it."""

import random
from collections import Counter

import pytest

from radixroute.events.errors import LocalEventError
from radixroute.events.publish.mirror import StreamMirror
from radixroute.events.publish.outbound import OutboundStream
from radixroute.events.wire.control import ResendRequest, decode_reply
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.digest import mix
from radixroute.radix.ids import Tier
from radixroute.radix.index import layout
from radixroute.radix.index.prefix_index import MIN_BYTES
from tests.events.fakes import FakeCache, removed, stored

EPOCH = make_epoch(1, bytes(8))


def grown(seed: int, steps: int = 60) -> tuple[StreamMirror, FakeCache]:
    cache, mirror = FakeCache(random.Random(seed)), StreamMirror()
    for _ in range(steps):
        for event in cache.step():
            mirror.apply(event)
    return mirror, cache


@pytest.mark.parametrize("seed", range(40))
def test_the_mirror_counts_what_the_cache_holds(seed):
    mirror, cache = grown(seed)
    mirror.check()
    assert mirror.n_blocks == len(cache.truth)
    assert copies_in(mirror) == cache.truth
    digest = sum(n * mix(key, tier) for (key, tier), n in cache.truth.items()) % 2**64
    assert mirror.account == (cache.truth.total(), digest)


@pytest.mark.parametrize("max_blocks", [1, 3, 7, 1000])
@pytest.mark.parametrize("seed", range(25))
def test_a_snapshot_rebuilds_the_mirror_and_names_parents_first(seed, max_blocks):
    mirror, cache = grown(seed)
    parts = list(mirror.snapshot_parts(EPOCH, 0, seq=9, max_blocks=max_blocks))
    assert [part.index for part in parts] == list(range(len(parts)))
    assert {part.count for part in parts} == {len(parts)}
    duplicate, seen = StreamMirror(), set()
    resident = {key for key, _ in cache.truth}
    for part in parts:
        assert sum(len(run.keys) for run in part.runs) <= max_blocks
        for run in part.runs:
            assert run.parent is None or run.parent in seen or run.parent not in resident
            seen.update(run.keys.tolist())
            duplicate.apply(run)
    duplicate.check()
    assert duplicate.account == mirror.account
    assert copies_in(duplicate) == cache.truth
    # The chain itself survives, not only the set: later snapshots of the duplicate are as good.
    assert parents_of(duplicate) == parents_of(mirror)


def copies_in(mirror: StreamMirror) -> Counter[tuple[int, Tier]]:
    return Counter((key, run.tier) for run in mirror.runs() for key in run.keys.tolist())


def parents_of(mirror: StreamMirror) -> dict[int, int | None]:
    parents: dict[int, int | None] = {}
    for run in mirror.runs():
        chain = [run.parent, *run.keys.tolist()]
        parents.update(zip(chain[1:], chain, strict=False))
    return parents


def test_an_empty_mirror_has_a_snapshot_of_one_empty_part():
    (part,) = StreamMirror().snapshot_parts(EPOCH, 2, seq=None, max_blocks=8)
    assert (part.rank, part.seq, part.index, part.count, part.runs) == (2, None, 0, 1, ())


def test_a_long_chain_is_one_run():
    mirror = StreamMirror()
    for key in range(1, 2000):
        mirror.apply(stored(key - 1 or None, key))
    (run,) = mirror.runs()
    assert run.keys.tolist() == list(range(1, 2000))


def test_a_removal_of_nothing_is_counted_and_not_passed_on():
    mirror = StreamMirror()
    mirror.apply(stored(None, 1, 3))
    sent = mirror.apply(removed(2, 3, 3))
    assert isinstance(sent, BlocksRemoved)
    assert sent.keys.tolist() == [3]
    mirror.apply(removed(1, tier=Tier.HOST))
    assert (mirror.unknown_removals, mirror.n_blocks) == (3, 1)
    assert mirror.account == (1, mix(1, Tier.DEVICE))
    mirror.check()


def test_a_clear_empties_every_tier():
    mirror, _ = grown(3)
    mirror.apply(CacheCleared())
    mirror.check()
    assert (mirror.n_blocks, mirror.account) == (0, (0, 0))


def test_check_finds_a_broken_account():
    mirror = StreamMirror()
    mirror.apply(stored(None, 1))
    mirror._index._lanes[1, layout.DIGEST] ^= 1
    with pytest.raises(LocalEventError):
        mirror.check()


def test_a_mirror_that_cannot_hold_the_cache_says_so():
    mirror = StreamMirror(MIN_BYTES)
    with pytest.raises(LocalEventError, match="budget"):
        mirror.apply(stored(None, *range(1, 10_000)))


def outbound(**more) -> OutboundStream:
    sizes = {"ring_batches": 3, "ring_bytes": 10_000, "part_blocks": 100} | more
    return OutboundStream(EPOCH, 0, **sizes)


def answered(frames):
    return decode_reply(frames)


def resent(stream: OutboundStream, first: int, last: int) -> list[int]:
    replies = [answered(frames) for frames in stream.resend(ResendRequest(first, last))]
    assert replies[-1].from_seq == first
    return [reply.seq for reply in replies[:-1]]


def test_the_ring_keeps_the_newest_batches():
    stream = outbound()
    for key in range(1, 6):
        stream.record((stored(None, key),), 0.0)
        stream.check()
    assert resent(stream, 0, 9) == [2, 3, 4]
    assert resent(stream, 3, 3) == [3]
    assert resent(stream, 0, 1) == []


def test_the_ring_keeps_no_more_than_its_bytes():
    stream = outbound(ring_batches=100, ring_bytes=200)
    for key in range(1, 20):
        stream.record((stored(None, key),), 0.0)
        stream.check()
    assert 1 <= len(resent(stream, 0, 99)) <= 4


def test_a_dropped_batch_consumes_its_seq_and_reaches_the_mirror():
    stream = outbound()
    stream.record((stored(None, 1),), 0.0)
    stream.drop((stored(None, 2),))
    stream.record((stored(None, 3),), 0.0)
    assert (stream.last_seq, stream.n_blocks, stream.counters.dropped) == (2, 3, 1)
    assert resent(stream, 0, 9) == [0, 2]


def test_a_batch_too_big_for_a_message_is_dropped_like_one():
    stream = outbound()
    huge = tuple(stored(None, *range(start, start + 50_000)) for start in (1, 100_001, 200_001))
    assert stream.record(huge, 0.0) is None
    assert (stream.counters.too_big, stream.counters.dropped, stream.last_seq) == (1, 1, 0)
    assert stream.n_blocks == 150_000


def test_a_snapshot_being_read_does_not_see_later_batches():
    stream = outbound(part_blocks=1)
    stream.record((stored(None, 1), stored(1, 2)), 0.0)
    messages = stream.snapshot()
    first = answered(next(messages))
    stream.record((CacheCleared(),), 0.0)
    rest = [answered(frames) for frames in messages]
    runs = [run for part in (first, *rest) for run in part.runs]
    assert sorted(key for run in runs for key in run.keys.tolist()) == [1, 2]
    assert {part.seq for part in (first, *rest)} == {0}
    assert all(isinstance(run, BlocksStored) for run in runs)
