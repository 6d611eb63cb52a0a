"""What every `Index` promises, shown one promise at a time, against each implementation."""

import numpy as np
import pytest

from radixroute.radix.digest import mix
from radixroute.radix.errors import HolderExists, UnknownHolder
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index.contract import Index, Run
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.index.reference import ReferenceIndex

A = Holder(WorkerId("a"))
B = Holder(WorkerId("b"))
A1 = Holder(WorkerId("a"), 1)
ROOT = None


def keys_of(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


@pytest.fixture(params=[PrefixIndex, ReferenceIndex])
def index(request) -> Index:
    made: Index = request.param()
    made.join(A)
    made.join(B)
    return made


def overlap(index: Index, holder: Holder, *values: int) -> int:
    index.check()
    return index.overlaps(keys_of(*values)).blocks_of(holder)


def test_an_empty_index_overlaps_nothing(index):
    found = index.overlaps(keys_of(1, 2))
    assert found.holders == (A, B)
    assert found.blocks.tolist() == [0, 0]
    assert found.best == 0


def test_a_stored_chain_overlaps_as_far_as_the_prompt_follows_it(index):
    index.store(A, ROOT, keys_of(1, 2, 3), Tier.DEVICE)
    assert overlap(index, A, 1, 2, 3, 4) == 3
    assert overlap(index, A, 1, 2) == 2
    assert overlap(index, A, 1, 2, 9, 10) == 2
    assert overlap(index, A, 9) == 0
    assert overlap(index, A) == 0
    assert overlap(index, B, 1, 2, 3) == 0


def test_overlaps_of_all_holders_come_at_once_in_the_order_they_joined(index):
    index.join(A1)
    index.store(A1, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.store(B, ROOT, keys_of(1), Tier.DEVICE)
    found = index.overlaps(keys_of(1, 2, 3))
    assert found.holders == (A, B, A1)
    assert found.blocks.tolist() == [0, 1, 2]
    assert found.blocks.dtype == found.tiers.dtype == np.int32
    assert found.best == 2


def test_overlaps_is_a_snapshot_that_nobody_can_write(index):
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    found = index.overlaps(keys_of(1))
    index.leave(A)
    index.leave(B)
    index.join(B)
    assert found.blocks_of(A) == 1
    assert found.blocks_of(B) == 0
    with pytest.raises(ValueError, match="read-only"):
        found.blocks[0] = 7
    with pytest.raises(ValueError, match="read-only"):
        found.tiers[0] = 7


def test_a_removed_parent_cuts_the_run_and_its_return_mends_it(index):
    index.store(A, ROOT, keys_of(1, 2, 3, 4), Tier.DEVICE)
    assert index.remove(A, keys_of(2), Tier.DEVICE) == 0
    assert overlap(index, A, 1, 2, 3, 4) == 1
    index.store(A, BlockKey(1), keys_of(2), Tier.DEVICE)
    assert overlap(index, A, 1, 2, 3, 4) == 4


def test_a_child_of_a_never_seen_parent_counts_once_the_parent_comes(index):
    index.store(A, BlockKey(1), keys_of(2, 3), Tier.DEVICE)
    assert overlap(index, A, 1, 2, 3) == 0
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    assert overlap(index, A, 1, 2, 3) == 3


def test_blocks_of_two_holders_do_not_add_up_to_a_run(index):
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    index.store(B, BlockKey(1), keys_of(2), Tier.DEVICE)
    assert overlap(index, A, 1, 2) == 1
    assert overlap(index, B, 1, 2) == 0


def test_each_copy_needs_a_removal_of_its_own(index):
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    assert index.n_blocks(A) == 1
    assert index.remove(A, keys_of(1), Tier.DEVICE) == 0
    assert overlap(index, A, 1) == 1
    assert index.remove(A, keys_of(1), Tier.DEVICE) == 0
    assert overlap(index, A, 1) == 0
    assert index.remove(A, keys_of(1), Tier.DEVICE) == 1


def test_unknown_removals_are_counted_and_change_nothing(index):
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    assert index.remove(A, keys_of(7, 8, 1), Tier.HOST) == 3
    assert index.remove(B, keys_of(1), Tier.DEVICE) == 1
    assert index.n_blocks(A) == 1
    assert overlap(index, A, 1) == 1


def test_a_removal_of_more_copies_than_there_are_counts_the_rest_as_unknown(index):
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    assert index.remove(A, keys_of(1, 1, 1), Tier.DEVICE) == 2
    assert index.n_blocks(A) == 0


def test_a_block_counts_in_its_fastest_tier(index):
    index.store(A, ROOT, keys_of(1, 2, 3, 4), Tier.HOST)
    index.store(A, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.store(A, BlockKey(2), keys_of(3, 4, 5), Tier.DISK)
    found = index.overlaps(keys_of(1, 2, 3, 4, 5, 6))
    assert found.blocks_of(A) == 5
    assert found.by_tier(A) == (2, 2, 1)
    assert found.by_tier(B) == (0, 0, 0)


def test_a_block_that_moves_to_another_tier_stays_in_the_run(index):
    index.store(A, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.store(A, BlockKey(1), keys_of(2), Tier.HOST)
    assert index.n_blocks(A) == 3
    index.remove(A, keys_of(2), Tier.DEVICE)
    assert index.overlaps(keys_of(1, 2)).by_tier(A) == (1, 1, 0)
    assert index.holds(A, BlockKey(2))
    index.remove(A, keys_of(2), Tier.HOST)
    assert not index.holds(A, BlockKey(2))
    assert overlap(index, A, 1, 2) == 1


def test_clearing_one_holder_leaves_the_others(index):
    for holder in (A, B):
        index.store(holder, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.clear(A)
    assert (overlap(index, A, 1, 2), overlap(index, B, 1, 2)) == (0, 2)
    assert (index.n_blocks(A), index.account(A), index.dump(A)) == (0, (0, 0), [])
    assert not index.holds(A, BlockKey(1))
    assert index.remove(A, keys_of(1), Tier.DEVICE) == 1


def test_a_holder_that_left_is_gone_and_comes_back_empty(index):
    index.store(A, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.leave(A)
    assert index.holders == (B,)
    assert overlap(index, A, 1, 2) == 0
    index.join(A)
    assert index.holders == (B, A)
    assert overlap(index, A, 1, 2) == 0
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    assert overlap(index, A, 1, 2) == 1


def test_ranks_of_a_worker_are_apart(index):
    index.join(A1)
    index.store(A1, ROOT, keys_of(1), Tier.DEVICE)
    assert (overlap(index, A, 1), overlap(index, A1, 1)) == (0, 1)


def test_joining_twice_is_misuse(index):
    with pytest.raises(HolderExists):
        index.join(A)


@pytest.mark.parametrize(
    "verb",
    [
        lambda index: index.leave(A1),
        lambda index: index.clear(A1),
        lambda index: index.store(A1, ROOT, keys_of(1), Tier.DEVICE),
        lambda index: index.remove(A1, keys_of(1), Tier.DEVICE),
        lambda index: index.holds(A1, BlockKey(1)),
        lambda index: index.n_blocks(A1),
        lambda index: index.account(A1),
        lambda index: index.dump(A1),
        lambda index: index.restore(A1, []),
    ],
)
def test_a_holder_that_never_joined_is_misuse_and_changes_nothing(index, verb):
    with pytest.raises(UnknownHolder):
        verb(index)
    assert index.holders == (A, B)
    index.check()


def test_a_stranger_has_no_credit(index):
    found = index.overlaps(keys_of(1))
    assert (found.blocks_of(A1), found.by_tier(A1)) == (0, (0, 0, 0))


def test_the_digest_counts_copies_whatever_their_order(index):
    index.store(A, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    index.store(A, ROOT, keys_of(9), Tier.HOST)
    index.remove(A, keys_of(9), Tier.HOST)
    assert index.account(A).n_copies == 3
    assert index.account(A).digest == sum(mix(key, Tier.DEVICE) for key in (1, 1, 2)) % 2**64
    index.remove(A, keys_of(1), Tier.DEVICE)
    assert index.account(A).digest == sum(mix(key, Tier.DEVICE) for key in (1, 2)) % 2**64


def test_a_removal_of_nothing_shows_in_the_digest(index):
    index.remove(A, keys_of(5), Tier.DISK)
    assert index.account(A).n_copies == -1
    assert index.account(A).digest == -mix(5, Tier.DISK) % 2**64


def test_a_dump_keeps_copies_tiers_and_parents_and_tells_parents_first(index):
    index.store(A, BlockKey(2), keys_of(3, 4), Tier.HOST)
    index.store(A, BlockKey(3), keys_of(5), Tier.DEVICE)
    index.store(A, BlockKey(50), keys_of(51), Tier.DISK)
    index.store(A, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.store(A, ROOT, keys_of(1), Tier.DEVICE)
    runs = index.dump(A)
    assert_parents_first(runs)
    assert pairs_of(runs) == sorted(
        [
            (None, 1, Tier.DEVICE), (None, 1, Tier.DEVICE), (1, 2, Tier.DEVICE),
            (2, 3, Tier.HOST), (3, 4, Tier.HOST), (3, 5, Tier.DEVICE), (50, 51, Tier.DISK),
        ],
        key=repr,
    )  # fmt: skip


def test_a_chain_is_dumped_as_one_run():
    index = PrefixIndex()
    index.join(A)
    index.store(A, ROOT, np.arange(1, 1001, dtype=np.uint64), Tier.DEVICE)
    index.store(A, BlockKey(500), keys_of(2001), Tier.DEVICE)
    assert [len(run.keys) for run in index.dump(A)] == [1000, 1]


def test_a_restore_replaces_what_was_there(index):
    index.store(A, ROOT, keys_of(1, 2), Tier.DEVICE)
    index.store(B, ROOT, keys_of(7, 8), Tier.HOST)
    index.restore(B, index.dump(A))
    assert overlap(index, B, 1, 2) == 2
    assert overlap(index, B, 7, 8) == 0
    assert index.account(B) == index.account(A)


def test_a_loop_of_parents_told_by_a_faulty_worker_ends():
    index = PrefixIndex()
    index.join(A)
    index.store(A, BlockKey(2), keys_of(1, 2), Tier.DEVICE)
    assert sorted(key for _, key, _ in pairs_of(index.dump(A))) == [1, 2]


def pairs_of(runs: list[Run]) -> list[tuple[int | None, int, Tier]]:
    """(parent, key, tier) of every copy, sorted."""
    found = []
    for run in runs:
        parent = run.parent
        for key in run.keys.tolist():
            found.append((parent, key, run.tier))
            parent = key
    return sorted(found, key=repr)


def assert_parents_first(runs: list[Run]) -> None:
    resident = {key for run in runs for key in run.keys.tolist()}
    seen: set[int] = set()
    for run in runs:
        assert run.parent is None or run.parent not in resident or run.parent in seen
        seen.update(run.keys.tolist())
