"""`RadixTree`, one promise at a time. Symbols are letters, blocks are numbers."""

from typing import ClassVar

import pytest

from radixroute.radix.errors import BrokenInvariant, LocalMisuse, StaleMatch
from radixroute.radix.tree.eviction import LeafFacts
from radixroute.radix.tree.radix_tree import Extension, NodeRef, RadixTree


class NewestFirst:
    """Another policy: evicts what was touched last."""

    ranks_in_blocks: ClassVar[bool] = False

    def rank(self, leaf: LeafFacts) -> int:
        return -leaf.touched_ns


@pytest.fixture
def tree() -> RadixTree[str]:
    return RadixTree()


def run(tree: RadixTree[str], text: str, first_block: int, now_ns: int = 0) -> NodeRef[str]:
    """A request that computes all of `text`; its blocks count up from `first_block`."""
    ref = tree.lock(tree.match(text))
    done = ref.length
    tree.extend(ref, text[done:], range(first_block + done, first_block + len(text)))
    tree.touch(ref, now_ns)
    tree.check()
    return ref


def finish(tree: RadixTree[str], *refs: NodeRef[str]) -> None:
    for ref in refs:
        tree.unlock(ref)
        tree.check()


def test_an_empty_tree_matches_nothing(tree):
    match = tree.match("abc")
    assert (match.blocks, match.length, match.n_unlocked) == ((), 0, 0)
    assert (tree.n_blocks, tree.n_evictable, tree.evict(3)) == (0, 0, [])
    tree.check()


def test_a_match_is_the_longest_cached_prefix(tree):
    finish(tree, run(tree, "abcd", 10))
    assert tree.match("abcdef").blocks == (10, 11, 12, 13)
    assert tree.match("abx").blocks == (10, 11)
    assert tree.match("ab").blocks == (10, 11)
    assert tree.match("bcd").blocks == ()
    assert tree.match("").blocks == ()


def test_branches_share_their_prefix(tree):
    finish(tree, run(tree, "abcd", 10), run(tree, "abxy", 20))
    assert tree.match("abcd").blocks == (10, 11, 12, 13)
    assert tree.match("abxy").blocks == (10, 11, 22, 23)
    assert tree.n_blocks == 6


def test_a_match_tells_how_many_of_its_blocks_locking_takes_from_the_evictable(tree):
    finish(tree, run(tree, "abcd", 10))
    held = tree.lock(tree.match("ab"))
    match = tree.match("abc")
    assert (match.length, match.n_unlocked, tree.n_evictable) == (3, 1, 2)
    tree.lock(match)
    assert tree.n_evictable == 1
    finish(tree, held)


def test_a_lock_pins_exactly_the_matched_blocks(tree):
    finish(tree, run(tree, "abcdef", 0))
    ref = tree.lock(tree.match("abcx"))
    tree.check()
    assert (ref.length, tree.n_evictable) == (3, 3)
    assert tree.evict(9) == [5, 4, 3]
    assert tree.blocks_of(ref) == [0, 1, 2]
    finish(tree, ref)
    assert tree.evict(9) == [2, 1, 0]


def test_a_lock_survives_that_another_request_splits_its_node(tree):
    long = run(tree, "abcdef", 0)
    finish(tree, run(tree, "abxy", 20))
    assert tree.blocks_of(long) == [0, 1, 2, 3, 4, 5]
    assert tree.evict(9) == [23, 22]
    assert tree.extend(long, "g", [6]) == Extension((), (6,))
    assert tree.match("abcdefg").length == 7
    finish(tree, long)


def test_a_lock_on_nothing_can_be_extended(tree):
    ref = tree.lock(tree.match("a"))
    assert ref.length == 0
    assert tree.extend(ref, "ab", [1, 2]) == Extension((), (1, 2))
    assert ref.length == 2
    finish(tree, ref)


def test_what_another_request_inserted_meanwhile_is_shared_and_reported(tree):
    one = tree.lock(tree.match("abcdef"))
    two = tree.lock(tree.match("abcdxy"))
    tree.extend(one, "abcdef", range(6))
    assert tree.extend(two, "abcdxy", range(10, 16)) == Extension((0, 1, 2, 3), (14, 15))
    tree.check()
    assert tree.blocks_of(two) == [0, 1, 2, 3, 14, 15]
    finish(tree, one)
    assert tree.n_evictable == 2
    finish(tree, two)


def test_an_extension_that_ends_inside_a_run_pins_only_its_own_part(tree):
    one = tree.lock(tree.match("abcdef"))
    two = tree.lock(tree.match("ab"))
    tree.extend(one, "abcdef", range(6))
    assert tree.extend(two, "ab", [10, 11]) == Extension((0, 1), ())
    finish(tree, one)
    assert tree.n_evictable == 4
    finish(tree, two)


def test_decoding_alone_grows_one_run_and_decoding_beside_others_does_not_pin_theirs(tree):
    ref = run(tree, "ab", 0)
    tree.extend(ref, "c", [2])
    assert len(tree._root.children["a"].symbols) == 3
    other = tree.lock(tree.match("abc"))
    tree.extend(ref, "d", [3])
    finish(tree, ref)
    assert tree.n_evictable == 1
    finish(tree, other)


def test_a_stale_match_is_refused(tree):
    finish(tree, run(tree, "abcd", 0))
    match = tree.match("ab")
    tree.evict(1)
    with pytest.raises(StaleMatch):
        tree.lock(match)
    assert tree.lock(tree.match("ab")).length == 2


def test_a_match_whose_node_was_split_is_refused(tree):
    finish(tree, run(tree, "abcd", 0))
    match = tree.match("abcd")
    tree.lock(tree.match("ab"))
    with pytest.raises(StaleMatch):
        tree.lock(match)


def test_a_dead_ref_or_one_of_another_tree_is_refused(tree):
    ref = run(tree, "ab", 0)
    stranger = run(RadixTree(), "ab", 0)
    finish(tree, ref)
    for bad in (ref, stranger):
        for verb in (
            lambda bad=bad: tree.unlock(bad),
            lambda bad=bad: tree.extend(bad, "c", [9]),
            lambda bad=bad: tree.retract(bad, 1),
            lambda bad=bad: tree.touch(bad, 1),
            lambda bad=bad: tree.blocks_of(bad),
        ):
            with pytest.raises(LocalMisuse):
                verb()
    tree.check()


def test_blocks_and_symbols_must_pair(tree):
    ref = run(tree, "ab", 0)
    with pytest.raises(LocalMisuse):
        tree.extend(ref, "cd", [9])
    with pytest.raises(LocalMisuse):
        tree.retract(ref, 3)
    with pytest.raises(LocalMisuse):
        tree.retract(ref, -1)


def test_a_retraction_undoes_an_extension(tree):
    ref = run(tree, "abcd", 0)
    assert tree.retract(ref, 2) == [3, 2]
    tree.check()
    assert (ref.length, tree.n_blocks) == (2, 2)
    tree.extend(ref, "xy", [8, 9])
    assert tree.match("abxy").blocks == (0, 1, 8, 9)
    assert tree.retract(ref, 4) == [9, 8, 1, 0]
    assert tree.n_blocks == 0
    finish(tree, ref)


def test_blocks_that_another_request_pins_stay_when_one_retracts_them(tree):
    one = run(tree, "abcd", 0)
    two = tree.lock(tree.match("abc"))
    assert tree.retract(one, 3) == [3]
    tree.check()
    assert tree.blocks_of(two) == [0, 1, 2]
    assert tree.blocks_of(one) == [0]
    assert tree.retract(two, 2) == [2, 1]
    finish(tree, one, two)


def test_a_failed_step_undone_in_reverse_order_leaves_nothing_of_it(tree):
    kept = run(tree, "ab", 0)
    one = tree.lock(tree.match("ab"))
    tree.extend(one, "cd", [2, 3])
    two = tree.lock(tree.match("abcdef"))
    assert two.length == 4
    tree.extend(two, "ef", [4, 5])
    freed = tree.retract(two, 4) + tree.retract(one, 2)
    assert sorted(freed) == [2, 3, 4, 5]
    assert tree.match("abcdef").blocks == (0, 1)
    finish(tree, kept, one, two)


def test_unlocked_blocks_below_a_retracted_one_leave_with_it(tree):
    one = run(tree, "abcd", 0)
    finish(tree, run(tree, "abcdef", 0), run(tree, "abcdxy", 20))
    assert sorted(tree.retract(one, 1)) == [3, 4, 5, 24, 25]
    tree.check()
    finish(tree, one)


def test_the_least_recently_touched_leaf_goes_first_and_from_its_tail(tree):
    finish(tree, run(tree, "abcd", 0, now_ns=5), run(tree, "wxyz", 10, now_ns=3))
    assert tree.evict(3) == [13, 12, 11]
    tree.check()
    assert tree.evict(3) == [10, 3, 2]
    tree.check()
    assert tree.match("abcd").blocks == (0, 1)


def test_a_shared_prefix_outlives_its_branches(tree):
    finish(tree, run(tree, "abcd", 0, now_ns=1), run(tree, "abxy", 20, now_ns=2))
    assert tree.evict(5) == [3, 2, 23, 22, 1]
    assert tree.evict(5) == [0]
    assert tree.n_blocks == 0


def test_a_prefix_in_use_goes_after_older_and_before_newer_ones(tree):
    finish(tree, run(tree, "abcd", 0, now_ns=1), run(tree, "wx", 10, now_ns=2))
    finish(tree, run(tree, "ab", 0, now_ns=3))
    assert tree.evict(9) == [3, 2, 11, 10, 1, 0]


def test_a_match_and_a_lock_do_not_count_as_use(tree):
    finish(tree, run(tree, "ab", 0, now_ns=1), run(tree, "wx", 10, now_ns=2))
    finish(tree, tree.lock(tree.match("ab")))
    assert tree.evict(2) == [1, 0]


def test_time_that_goes_back_does_not_make_a_path_older(tree):
    ref = run(tree, "ab", 0, now_ns=5)
    tree.touch(ref, 2)
    finish(tree, ref, run(tree, "wx", 10, now_ns=4))
    assert tree.evict(2) == [11, 10]


def test_another_policy_decides_otherwise():
    tree: RadixTree[str] = RadixTree(NewestFirst())
    finish(tree, run(tree, "abcd", 0, now_ns=5), run(tree, "wxyz", 10, now_ns=3))
    assert tree.evict(5) == [3, 2, 1, 0, 13]


def test_locked_blocks_are_never_evicted(tree):
    ref = run(tree, "abcd", 0)
    assert tree.n_evictable == 0
    assert tree.evict(9) == []
    finish(tree, run(tree, "abcdef", 0))
    assert tree.evict(9) == [5, 4]
    finish(tree, ref)


def test_clearing_frees_all_that_nobody_uses(tree):
    ref = run(tree, "ab", 0)
    finish(tree, run(tree, "abcd", 0), run(tree, "xy", 10))
    assert sorted(tree.clear()) == [2, 3, 10, 11]
    tree.check()
    assert tree.blocks_of(ref) == [0, 1]


def test_every_lock_is_counted_until_it_is_given_back(tree):
    refs = [run(tree, "ab", 0), run(tree, "abcd", 0), tree.lock(tree.match("z"))]
    assert tree.n_locked_paths == 3
    finish(tree, *refs)
    assert tree.n_locked_paths == 0
    assert tree.n_evictable == tree.n_blocks == 4


def test_a_prompt_far_longer_than_the_recursion_limit_is_fine():
    tree: RadixTree[int] = RadixTree()
    refs = []
    for length in range(1, 1500):  # every prefix locked: a node for each symbol
        ref = tree.lock(tree.match(range(length)))
        tree.extend(ref, [length - 1], [length])
        refs.append(ref)
    tree.check()
    for ref in refs:
        tree.unlock(ref)
    assert len(tree.clear()) == 1499
    tree.check()


def _misplace_a_child(tree):
    tree._root.children["z"] = tree._root.children.pop("a")


def _orphan_a_child(tree):
    tree._root.children["a"].parent = None


def _lose_a_block(tree):
    tree._root.children["a"].blocks.pop()


def _own_a_block_twice(tree):
    tree._root.children["a"].blocks[0] = 3


def _lose_a_lock(tree):
    tree._root.children["a"].locks -= 1


def _cut_off_a_locked_branch(tree):
    del tree._root.children["a"]


def _miscount(tree):
    tree._n_blocks += 1


def _miscount_the_evictable(tree):
    tree._n_evictable -= 1


def _forget_a_leaf(tree):
    tree._queue.discard(tree._queue.first())


def _queue_a_locked_node(tree):
    tree._queue.add(tree._root.children["a"])


def _make_a_child_newer(tree):
    tree._root.children["a"].children["c"].touched_ns = 99


def _empty_a_node(tree):
    node = tree._root.children["w"]
    tree._n_blocks -= len(node.blocks)
    tree._n_evictable -= len(node.blocks)
    del node.symbols[:], node.blocks[:]


def _give_the_root_a_run(tree):
    tree._root.symbols.append("q")


def _bear_two_as_one(tree):
    tree._root.children["a"].born = 0


def test_a_leaf_is_never_queued_twice(tree):
    finish(tree, run(tree, "ab", 0))
    with pytest.raises(BrokenInvariant):
        tree._queue.add(tree._root.children["a"])


@pytest.mark.parametrize(
    "damage",
    [
        _misplace_a_child, _orphan_a_child, _lose_a_block, _own_a_block_twice, _lose_a_lock,
        _cut_off_a_locked_branch, _miscount, _miscount_the_evictable, _forget_a_leaf,
        _queue_a_locked_node, _make_a_child_newer, _empty_a_node, _give_the_root_a_run,
        _bear_two_as_one,
    ],
)  # fmt: skip
def test_check_notices_damage(tree, damage):
    run(tree, "abcd", 0)
    finish(tree, run(tree, "abxy", 20), run(tree, "wv", 30))
    tree.check()
    damage(tree)
    with pytest.raises(BrokenInvariant):
        tree.check()
