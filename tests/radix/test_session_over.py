"""What a session that is over leaves behind, under every policy. A pool of 100 blocks."""

import pytest

from radixroute.radix.tree.eviction import EVICTION_POLICIES
from tests.radix.pools import Pool

AGE = 80  # blocks: of this pool


@pytest.fixture(params=EVICTION_POLICIES)
def pool(request):
    return Pool(request.param)


def test_it_goes_before_what_is_a_little_older(pool):
    pool.serve("ab")
    pool.serve("cd", 1)
    assert pool.gone(2, "ab", "cd") == ["cd"]
    assert pool.gone(2, "ab") == ["ab"]


@pytest.mark.parametrize(("stored", "first"), [(AGE - 1, "cd"), (AGE, "cd"), (AGE + 1, "ab")])
def test_it_counts_as_older_by_four_fifths_of_a_pool_and_no_more(pool, stored, first):
    pool.serve("ab")
    pool.serve("x" * (stored - 2), 1)  # with "cd" as many blocks as are between the two uses
    pool.serve("cd", 1)
    assert pool.tree.evict(stored - 2)  # the x's, younger than "ab" by less
    assert pool.gone(2, "ab", "cd") == [first]


def test_of_sessions_that_are_over_the_oldest_goes_first(pool):
    for text in ("ab", "cd", "ef"):
        pool.serve(text, 1)
    assert pool.gone(2, "ab", "cd", "ef") == ["ab"]


def test_whoever_uses_it_again_takes_it_back(pool):
    pool.serve("cd", 1)
    pool.serve("ab")
    pool.serve("cd")
    pool.serve("ef")
    assert "cd" not in pool.gone(2, "ab", "cd", "ef")


def test_what_was_not_used_is_not_taken_back(pool):
    pool.serve("ab")
    pool.serve("cd", 1)
    pool.serve("cd", is_touched=False)
    assert pool.gone(2, "ab", "cd") == ["cd"]


def test_what_others_used_too_stays(pool):
    """The trunk of several sessions is not the last one's."""
    pool.serve("sab")
    pool.serve("scd", 1)
    assert pool.gone(2, "sab") == []
    pool.serve("ef")
    assert pool.gone(2, "sa", "ef") != ["ef"]


@pytest.mark.parametrize(("said", "first"), [(1, "ab"), (2, "ab"), (3, "cdef"), (9, "cdef")])
def test_what_was_used_more_often_than_the_session_had_requests_stays(pool, said, first):
    """Somebody else used it, too. A run grows with its turns, so all of it was used three times."""
    for text in ("cd", "cde", "ab", "ab", "ab"):
        pool.serve(text)
    pool.serve("cdef", said)
    assert pool.gone(2, "ab", "cdef") == [first]


def test_a_later_part_of_the_run_is_told_and_the_shared_one_is_not(pool):
    pool.serve("abcd", 1)
    pool.serve("abx")  # parts them: "ab" was used again, "cd" was not
    pool.serve("ef")
    assert pool.gone(2, "abcd", "ab", "abx", "ef") == ["abcd"]


def test_both_parts_of_a_run_that_was_split_without_a_use_are_still_over(pool):
    pool.serve("ab")
    pool.serve("cdef", 1)
    pool.tree.unlock(pool.tree.lock(pool.tree.match("cdx")))
    assert pool.gone(4, "ab", "cdef") == ["cdef"]
    assert pool.tree.n_blocks == 2
