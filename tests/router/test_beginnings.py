"""Beginnings: who follows whom is learned from prefixes alone."""

import pytest

from radixroute.router.policy.radix import beginnings
from radixroute.router.policy.radix.beginnings import MOST_FOLLOWERS, Beginnings


def test_a_prefix_that_another_request_had_is_where_something_begins():
    book = Beginnings()
    assert book.is_one(None, "r0"), "nothing of it is cached"
    assert not book.is_one(7, "r1"), "left there by what came before it"
    book.bound(7, "r1")
    assert not book.is_one(7, "r1"), "the same request, planned or sent once more"
    assert book.is_one(7, "r2")
    assert not book.is_one(8, "r2")


def test_followers_are_learned_of_chats_and_of_single_questions():
    """A prefix that all share and then turns of their own: the first turn brings the others."""
    book, n = Beginnings(), 0
    for chat in range(100):
        for turn in range(6):
            book.bound(1 if turn == 0 else 1000 * chat + turn + 10, f"r{n}")
            n += 1
    assert book.followers == pytest.approx(5.0, rel=0.2)
    assert book.followers_of(1, "next") == book.followers
    assert book.followers_of(999_999, "next") == 0.0, "its beginning chose for it"
    for _ in range(1000):
        book.bound(1, f"r{n}")
        n += 1
    assert book.followers == pytest.approx(0.0, abs=0.01)


def test_until_requests_tell_as_many_follow_as_in_chats():
    book = Beginnings()
    assert book.followers == pytest.approx(4.0)
    for n in range(60):
        book.bound(1, f"r{n}")
    assert book.followers < 1.0, "sixty single questions outweigh the guess"


def test_a_stream_of_turns_without_a_beginning_is_no_proof_of_endless_followers():
    book = Beginnings()
    for n in range(5000):
        book.bound(n, f"r{n}")
    assert book.followers <= MOST_FOLLOWERS


def test_what_was_seen_longest_ago_is_forgotten_first(monkeypatch):
    monkeypatch.setattr(beginnings, "MAX_PREFIXES", 3)
    book = Beginnings()
    for prefix in (1, 2, 3, 1, 4):
        book.bound(prefix, f"of {prefix}")
    assert len(book) == 3
    assert [prefix for prefix in (1, 2, 3, 4) if book.is_one(prefix, "new")] == [1, 3, 4]
