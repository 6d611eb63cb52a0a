"""The prefix cache on its own: leases, sharing inside a step, eviction, retraction, events."""

import numpy as np
import pytest

from radixroute.events.wire.records import BlocksRemoved, BlocksStored
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope
from radixroute.worker.engine.cache import PrefixCache

SIZE = 4
SCOPE = Scope("fa4e", SIZE)
SEED = SCOPE.seed


def tokens(*ids):
    return np.array(ids, dtype=np.uint32)


def fill(cache, lease, text, n=None):
    n = len(text) if n is None else n
    cache.grow(lease, n)
    cache.publish(lease, text, n)


def run_alone(cache, text, now_ns=0):
    lease = cache.acquire(text)
    fill(cache, lease, text)
    cache.settle(lease)
    cache.touch(lease, now_ns)
    cache.release(lease)
    cache.check()


def told(event):
    """Keys and tokens of a stored event."""
    assert isinstance(event, BlocksStored)
    assert event.tokens is not None
    return event.keys.tolist(), event.tokens.tolist()


A = tokens(*range(1, 13))
B = tokens(*range(1, 9), 50, 51, 52, 53, 54)


def test_a_prompt_leaves_full_blocks_behind_and_frees_the_rest():
    cache = PrefixCache(8, SIZE, SCOPE)
    run_alone(cache, B)
    assert cache.n_used == 3
    assert cache.n_available == 8
    (event,) = cache.take_events()
    assert isinstance(event, BlocksStored)
    assert event.parent is None
    assert event.keys.tolist() == block_keys(B, SIZE, SEED).tolist()
    assert cache.take_events() == ()


def test_stored_events_carry_the_tokens_of_exactly_their_blocks_where_wanted():
    cache = PrefixCache(16, SIZE, SCOPE, events_carry_tokens=True)
    first, second = cache.acquire(A), cache.acquire(B)
    fill(cache, first, A)
    fill(cache, second, B)  # its first two blocks are there by now
    assert [told(event) for event in cache.take_events()] == [
        (block_keys(A, SIZE, SEED).tolist(), A.tolist()),
        (block_keys(B, SIZE, SEED).tolist()[2:], B.tolist()[8:12]),
    ]
    text = np.concatenate([A, A])
    lease = cache.acquire(text)
    fill(cache, lease, text)
    (event,) = cache.take_events()
    text[:] = 0  # the sequence's array is its own
    assert told(event)[1] == A.tolist()


def test_stored_events_name_the_parent_they_follow():
    cache = PrefixCache(8, SIZE, SCOPE)
    run_alone(cache, A)
    cache.take_events()
    run_alone(cache, B)
    (event,) = cache.take_events()
    keys = block_keys(B, SIZE, SEED).tolist()
    assert isinstance(event, BlocksStored)
    assert (event.parent, event.keys.tolist()) == (keys[1], keys[2:])


def test_a_lease_covers_the_cached_prefix_but_never_the_last_token():
    cache = PrefixCache(8, SIZE, SCOPE)
    run_alone(cache, A)
    assert cache.cached_tokens(A) == 8
    assert cache.cached_tokens(tokens(*A.tolist(), 99)) == 12
    assert cache.cached_tokens(B) == 8
    assert cache.cached_tokens(tokens(2, 1, 3, 4, 5)) == 0
    lease = cache.acquire(B)
    assert len(lease.table) == 2
    cache.check()
    cache.release(lease)


def test_pinned_blocks_are_never_evicted_and_the_oldest_prefix_goes_first():
    cache = PrefixCache(6, SIZE, SCOPE)
    run_alone(cache, tokens(*range(20, 29)), now_ns=1)
    run_alone(cache, tokens(*range(40, 49)), now_ns=2)
    pinned = cache.acquire(tokens(*range(40, 49)))
    assert cache.n_available == 4
    new = cache.acquire(tokens(*range(60, 70)))
    assert cache.can_grow(new, 16)
    assert not cache.can_grow(new, 17)
    fill(cache, new, tokens(*range(60, 72)))
    cache.settle(new)
    assert cache.cached_tokens(tokens(*range(40, 49))) == 8
    assert cache.cached_tokens(tokens(*range(20, 29))) == 4
    cache.check()
    cache.release(pinned)
    cache.release(new)
    cache.check()


def test_eviction_tells_which_keys_are_gone():
    cache = PrefixCache(2, SIZE, SCOPE)
    run_alone(cache, A[:8])
    cache.take_events()
    run_alone(cache, tokens(*range(60, 68)))
    removed, stored = cache.take_events()
    assert isinstance(removed, BlocksRemoved)
    assert isinstance(stored, BlocksStored)
    assert set(removed.keys.tolist()) == set(block_keys(A[:8], SIZE, SEED).tolist())
    assert cache.resident_keys() == set(stored.keys.tolist())


def test_a_request_of_the_same_step_shares_blocks_before_they_are_computed():
    cache = PrefixCache(8, SIZE, SCOPE)
    first = cache.acquire(A)
    fill(cache, first, A)
    second = cache.acquire(B)
    assert second.table == first.table[:2]
    fill(cache, second, B)
    for lease in (first, second):
        cache.settle(lease)
    cache.check()
    assert cache.n_used == 3 + 1 + 1


def test_an_own_copy_of_a_cached_block_is_given_up_after_the_step():
    cache = PrefixCache(8, SIZE, SCOPE)
    first, second = cache.acquire(A), cache.acquire(A)
    fill(cache, first, A)
    fill(cache, second, A)
    assert not set(first.table) & set(second.table), "this step still writes to both"
    cache.settle(first)
    cache.settle(second)
    assert first.table == second.table
    assert cache.n_used == 3
    assert cache.counters.deduplicated == 3
    assert len(cache.take_events()) == 1
    cache.check()


def test_a_failed_step_takes_back_what_it_stored_and_no_more():
    cache = PrefixCache(12, SIZE, SCOPE)
    run_alone(cache, A[:5])
    before = cache.resident_keys()
    first = cache.acquire(A)
    fill(cache, first, A)
    second = cache.acquire(B)
    fill(cache, second, B)
    duplicate = cache.acquire(A)
    fill(cache, duplicate, A)
    for lease in (duplicate, second, first):
        cache.retract(lease)
        cache.release(lease)
    cache.check()
    assert cache.resident_keys() == before
    assert cache.n_used == 1
    believed: set[int] = set()
    for event in cache.take_events():
        keys = set(event.keys.tolist())  # type: ignore[union-attr]  # no CacheCleared here
        believed = believed | keys if isinstance(event, BlocksStored) else believed - keys
    assert believed == before


def test_a_lease_cannot_be_released_inside_a_step():
    cache = PrefixCache(8, SIZE, SCOPE)
    lease = cache.acquire(A)
    fill(cache, lease, A)
    with pytest.raises(BrokenInvariant):
        cache.release(lease)


def test_keys_grown_block_by_block_are_those_of_the_whole():
    cache = PrefixCache(8, SIZE, SCOPE)
    lease = cache.acquire(B)
    for n in range(1, len(B) + 1):
        fill(cache, lease, B, n)
        cache.settle(lease)
    assert cache.resident_keys() == set(block_keys(B, SIZE, SEED).tolist())
    cache.release(lease)
    cache.check()
