"""Policies that count uses, one promise at a time. A pool of 100 blocks, one symbol a letter."""

import pytest

from radixroute.radix.errors import LocalMisuse
from radixroute.radix.tree.eviction import (
    EVICTION_POLICIES,
    HeadStart,
    LeafFacts,
    eviction_named,
    interval_after,
)
from tests.radix.pools import BLOCKS, SIZE, Pool


@pytest.mark.parametrize("name", EVICTION_POLICIES)
def test_of_prefixes_used_once_the_oldest_goes_first(name):
    pool = Pool(name)
    for text in ("ab", "cd", "ef"):
        pool.serve(text)
    assert pool.first_gone("ef", "cd", "ab") == "ab"


@pytest.mark.parametrize(
    ("name", "first"), [("lru", "ab"), ("slru", "cd"), ("lfu", "cd"), ("cost", "cd")]
)
def test_a_second_use_is_worth_some_age(name, first):
    pool = Pool(name)
    pool.serve("ab")
    pool.store("x", 10)
    pool.serve("ab")
    pool.serve("cd")
    assert pool.first_gone("ab", "cd") == first


@pytest.mark.parametrize("name", ["slru", "lfu", "cost"])
def test_what_was_used_often_goes_too_when_it_is_old(name):
    pool = Pool(name)
    for _ in range(9):
        pool.serve("ab")
        pool.store("x", 10)
    pool.store("y", 350)
    pool.serve("cd")
    assert pool.first_gone("ab", "cd") == "ab"


def test_uses_are_worth_no_more_than_twice_the_gap_between_them():
    """A dead conversation was used often, too, but it came back soon while it lived."""
    pool = Pool("lfu")
    for letter in "uvwxyz":
        pool.serve("ab")
        pool.store(letter, 4)  # intervals of 4 blocks; six uses would be worth 125
    pool.store("t", 10)
    pool.serve("cd")
    assert pool.first_gone("ab", "cd") == "ab"


def test_a_match_that_was_never_touched_is_no_use():
    pool = Pool("lfu")
    pool.serve("ab")
    pool.store("x", 10)
    pool.serve("ab", is_touched=False)
    pool.serve("cd")
    assert pool.first_gone("ab", "cd") == "ab"


def test_a_branch_begins_without_the_uses_of_its_trunk():
    pool = Pool("lfu")
    for text in ("abq", "abr", "abc", "ef"):
        pool.store("x", 10)
        pool.serve(text)
    assert pool.first_gone("abc", "ef") == "abc"


def test_the_parts_of_a_split_run_keep_its_uses():
    pool = Pool("lfu")
    pool.serve("abcd")
    pool.store("x", 10)
    pool.serve("abcd")
    pool.serve("abx")  # parts them
    pool.serve("ef")
    assert pool.first_gone("abcd", "abx", "ef") == "abx"


def test_the_upper_part_of_a_split_run_keeps_its_interval():
    pool = Pool("lfu")
    pool.serve("abcd")
    pool.store("x", 60)
    pool.serve("abcd")
    pool.serve("abx")  # parts them: 30 blocks, half the interval, are left to "ab"
    pool.store("y", 40)
    pool.serve("ef")
    assert pool.first_gone("ab", "ef") == "ef"


def test_later_blocks_are_dearer():
    near = LeafFacts(0, 0, uses=2, used_at=7, interval=50, end=4)
    policy = HeadStart(step=10, top=3, intervals=2, far=8)
    assert policy.rank(near) == 7 + 15
    assert policy.rank(near._replace(end=8)) == policy.rank(near._replace(end=99)) == 7 + 20
    assert policy.rank(near._replace(uses=99, end=8)) == 7 + 2 * 30
    assert policy.rank(near._replace(uses=0)) == 7


def test_one_short_gap_does_not_undo_a_long_one():
    assert [interval_after(0, 9), interval_after(40, 3), interval_after(40, 30)] == [9, 20, 30]


def test_an_unknown_policy_is_named_with_those_there_are():
    with pytest.raises(LocalMisuse, match=r"'lfru'; use one of lru, slru, lfu, cost"):
        eviction_named("lfru", BLOCKS, SIZE)
