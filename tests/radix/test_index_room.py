"""Room in the arena: what was removed leaves none behind, and goes before what is held."""

import numpy as np
import pytest

from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.radix.index import layout
from radixroute.radix.index.prefix_index import MIN_BYTES, PrefixIndex

A, B = Holder(WorkerId("a")), Holder(WorkerId("b"))


def chain(n: int, start: int = 1) -> Keys:
    return np.arange(start, start + n, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)


def new_index(max_bytes: int) -> PrefixIndex:
    index = PrefixIndex(max_bytes)
    index.join(A)
    index.join(B)
    return index


def n_rows(index: PrefixIndex) -> int:
    return int(index._head[layout.N_USED_ROWS])


def test_a_chain_removed_head_first_leaves_nothing_behind_at_any_time():
    index, keys = new_index(1 << 22), chain(5_000)
    index.store(A, None, keys, Tier.DEVICE)
    for start in range(0, 5_000, 625):
        index.remove(A, keys[start : start + 625], Tier.DEVICE)
        index.check()
        n_left = 5_000 - start - 625
        assert n_rows(index) <= (n_left + 2 if n_left else 0)


@pytest.mark.parametrize("step", [2, 3, -1])
def test_a_chain_removed_in_any_order_leaves_nothing_behind(step):
    index, keys = new_index(1 << 22), chain(3_000)
    for holder in (A, B):
        index.store(holder, None, keys, Tier.DEVICE)
    for holder in (A, B):
        order = [keys[first::step] for first in range(abs(step))] if step > 0 else [keys[::-1]]
        for some in order:
            index.remove(holder, np.ascontiguousarray(some), Tier.DEVICE)
            index.check()
    assert n_rows(index) == 0


@pytest.mark.parametrize(("n", "rounds"), [(8_192, 400), (65_536, 60)])
def test_chains_removed_head_first_never_cost_a_live_one_its_place(n, rounds):
    """Three arenas of 64 MiB go by: 192 blocks of each later chain were kept."""
    index = new_index(64 << 20)
    live = chain(n, 10**9)
    index.store(B, None, live, Tier.DEVICE)
    for number in range(rounds):
        keys = chain(n, 1 + n * number)
        index.store(A, None, keys, Tier.DEVICE)
        assert index.n_blocks(A) == n, number
        index.remove(A, keys, Tier.DEVICE)
    assert index.n_forgotten == 0
    assert index.overlaps(live).blocks_of(B) == n
    assert n_rows(index) == n


@pytest.mark.parametrize("n_first", [0, 1, 2])
def test_what_was_removed_before_a_block_that_stays_takes_no_room(n_first):
    """Tails of chains are held, their heads are gone: only the tails count."""
    index = new_index(1 << 20)
    for number in range(200):
        keys = chain(400, 1 + 400 * number)
        index.store(A, None, keys, Tier.DEVICE)
        index.remove(A, keys[n_first:-1], Tier.DEVICE)
    index.check()
    assert index.n_forgotten == 0
    assert index.n_blocks(A) == 200 * (1 + n_first)


def test_what_left_goes_before_what_is_held():
    index = new_index(1 << 22)
    kept = chain(30_000)
    index.store(A, None, kept, Tier.DEVICE)
    for number in range(60):
        index.store(B, None, chain(500, 10**6 + 500 * number), Tier.DEVICE)
    index.leave(B)
    more = chain(30_000, 2 * 10**6)  # in one call: nobody sweeps meanwhile
    index.store(A, None, more, Tier.DEVICE)
    index.check()
    assert index.n_forgotten == 0
    assert [index.overlaps(keys).blocks_of(A) for keys in (kept, more)] == [30_000, 30_000]


@pytest.mark.parametrize("n", [50, 3_000, 20_000])
def test_a_new_chain_takes_the_place_of_old_ones_however_long_they_are(n):
    index = new_index(1 << 21)
    for number in range(200_000 // n):
        keys = chain(n, 1 + n * number)
        index.store(A, None, keys, Tier.DEVICE)
        assert index.overlaps(keys).blocks_of(A) == n, number
    index.check()
    assert index.n_blocks(A) + index.n_forgotten == 200_000 // n * n
    assert index.n_blocks(A) > 45_000
    assert index.n_holes(A) == 0


def test_one_block_at_a_time_a_long_chain_makes_room_after_few_refusals():
    """A call of one block looks at a few thousand rows, and the next looks on."""
    index = new_index(1 << 22)
    index.store(A, None, chain(200_000), Tier.DEVICE)
    n_before = index.n_blocks(A)
    for number in range(1_000):
        index.store(B, None, chain(1, 10**6 + number), Tier.DEVICE)
    assert index.n_blocks(B) >= 950
    assert index.n_blocks(A) >= n_before - 1_000


def test_a_full_row_takes_a_new_holder_in_place_of_one_that_left():
    index = PrefixIndex(1 << 22)
    holders = [Holder(WorkerId(str(number))) for number in range(layout.MAX_HOLDERS)]
    for holder in holders:
        index.join(holder)
        index.store(holder, None, chain(1), Tier.DEVICE)
    for holder in holders[:100]:
        index.clear(holder)
        index._kernels.store(  # as the events of one message do: nobody sweeps meanwhile
            *index._arrays, index._lane(holder), np.uint64(0), chain(1), 0
        )
    assert index.n_forgotten == 0
    assert int(index.overlaps(chain(1)).blocks.sum()) == layout.MAX_HOLDERS
    index.check()


def test_a_ghost_that_comes_back_gets_the_parent_it_is_told():
    index = new_index(MIN_BYTES)
    keys = chain(4)
    index.store(A, None, keys, Tier.DEVICE)
    index.remove(A, keys[:3], Tier.DEVICE)
    index.store(A, None, keys[:3], Tier.DEVICE)
    index.check()
    assert index.overlaps(keys).blocks_of(A) == 4
    assert [(run.parent, run.keys.tolist()) for run in index.dump(A)] == [(None, keys.tolist())]
    assert index.n_conflicts == 0
    index.store(B, BlockKey(int(keys[2])), keys[3:], Tier.DEVICE)
    assert index.overlaps(keys).blocks.tolist() == [4, 0]


def set_word(index: PrefixIndex, at_cell: int, mask: int, value: int) -> None:
    index._cells[at_cell] = np.uint64((int(index._cells[at_cell]) & ~mask) | value)


@pytest.mark.parametrize("most", [1, 2, 3])
def test_more_children_than_are_counted_change_no_flag_and_no_overlap(most):
    """As if 16.7 million children less a few of the first block had been stored before."""
    index, first, n = new_index(1 << 20), chain(1), 4
    index.store(A, None, first, Tier.DEVICE)
    for mask, shift, word in ((int(layout.CHILD_ROWS), 32, 1), (int(layout.CHILDREN), 0, 2)):
        set_word(index, layout.ROW_WORDS + word, mask, (0xFFFFFF - most) << shift)
    below = [chain(1, 100 + number) for number in range(n)]
    for keys in below:
        index.store(A, BlockKey(int(first[0])), keys, Tier.DEVICE)
    index.check()
    prompts = [np.append(first, keys) for keys in below]
    assert [index.overlaps(keys).blocks_of(A) for keys in prompts] == [2] * n
    index.remove(A, first, Tier.DEVICE)
    assert [index.overlaps(keys).blocks_of(A) for keys in prompts] == [0] * n
    index.store(A, None, first, Tier.DEVICE)
    index.store(B, None, first, Tier.DEVICE)
    assert [index.overlaps(keys).blocks.tolist() for keys in prompts] == [[2, 1]] * n
    for keys in below:
        index.remove(A, keys, Tier.DEVICE)
    index.remove(A, first, Tier.DEVICE)
    index.check()
    assert [index.overlaps(keys).blocks.tolist() for keys in prompts] == [[0, 1]] * n
    assert (index.n_forgotten, index.n_blocks(A)) == (0, 0)
    index.clear(A)
    index.sweep(1 << 10)
    index.check()


@pytest.mark.parametrize(("tier", "most"), [(Tier.DEVICE, 1023), (Tier.HOST, 255)])
def test_more_copies_than_are_counted_are_held_until_their_holder_clears(tier, most):
    """1,030 copies and 1,023 removals: none was left where seven are."""
    index, keys = new_index(1 << 20), chain(3)
    for _ in range(most + 7):
        index.store(A, None, keys, tier)
    index.check()
    assert (index.n_uncounted, index.n_forgotten) == (7 * 3, 0)
    for _ in range(most + 7):
        assert index.remove(A, keys, tier) == 0
        assert index.overlaps(keys).blocks_of(A) == 3
    assert index.account(A).n_copies == 0
    index.check()
    index.clear(A)
    assert index.overlaps(keys).blocks_of(A) == 0
    index.store(A, None, keys, tier)
    assert index.remove(A, keys, tier) == 0
    assert index.overlaps(keys).blocks_of(A) == 0
