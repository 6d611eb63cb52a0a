"""Load book: nothing counts twice, nothing is forgotten, reports and bookings add up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.events.wire.records import SessionLoad
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.load import BookingId, Load, LoadBook

W = WorkerId("w")
WORKERS = [WorkerId(name) for name in ("w", "w0", "w1", "w2")]


def new_book() -> LoadBook:
    columns = WorkerColumns()
    book = LoadBook("me", columns)
    for worker_id in WORKERS:
        columns.give(worker_id)
    return book


def booking(n: int) -> BookingId:
    return BookingId(f"r{n}", 1)


def book_with(*tokens: int) -> LoadBook:
    book = new_book()
    for n, queued in enumerate(tokens, start=1):
        book.book(booking(n), W, dispatch_seq=n, queued_tokens=queued, now_ns=n)
    return book


def load_of(book: LoadBook) -> Load:
    """Without the time of it."""
    return book.load(W)._replace(since_ns=0)


def session(router: str, ack: int, in_flight: int, queued: int) -> SessionLoad:
    return SessionLoad(router, ack, in_flight, queued, 0)


def test_booked_load_counts_at_once():
    assert load_of(book_with(100, 50)) == Load(in_flight=2, queued_tokens=150, prompts=2)


def test_the_first_token_ends_the_wait_and_begins_decoding():
    book = book_with(100, 50)
    book.first_token(booking(1), 9)
    book.first_token(booking(1), 9)
    assert load_of(book) == Load(in_flight=2, queued_tokens=50, decoding=1, prompts=1)


def test_settling_takes_everything_back():
    book = book_with(100, 50)
    book.first_token(booking(1), 9)
    book.settle(booking(1))
    book.settle(booking(2))
    assert load_of(book) == Load()
    book.check()


def test_settling_twice_is_a_bug():
    book = book_with(10)
    book.settle(booking(1))
    with pytest.raises(BrokenInvariant):
        book.settle(booking(1))


def test_booking_twice_is_a_bug():
    with pytest.raises(BrokenInvariant):
        book_with(10).book(booking(1), W, dispatch_seq=2, queued_tokens=1, now_ns=0)


def test_a_report_replaces_what_it_acknowledges_and_nothing_else():
    book = book_with(100, 50)
    book.report(W, [session("me", ack=1, in_flight=1, queued=30)], 9)
    # 70 of the first 100 tokens are computed; the second dispatch was not seen yet.
    assert book.load(W).queued_tokens == 30 + 50


def test_a_report_older_than_a_first_token_adds_nothing():
    book = book_with(100)
    book.report(W, [session("me", ack=1, in_flight=1, queued=100)], 9)
    book.first_token(booking(1), 9)
    assert book.load(W).queued_tokens == 0


def test_other_routers_requests_are_seen_and_replaced_by_the_next_report():
    book = book_with(10)
    book.report(W, [session("you", ack=9, in_flight=3, queued=200)], 9)
    assert load_of(book) == Load(in_flight=4, queued_tokens=210, decoding=3, prompts=1)
    book.report(W, [session("you", ack=9, in_flight=0, queued=0)], 9)
    assert load_of(book) == Load(in_flight=1, queued_tokens=10, prompts=1)


def test_a_worker_with_bookings_cannot_be_forgotten():
    book = book_with(10)
    with pytest.raises(BrokenInvariant):
        book.forget_worker(W)
    book.settle(booking(1))
    book.report(W, [session("you", ack=1, in_flight=3, queued=200)], 9)
    book.forget_worker(W)
    assert load_of(book) == Load()


def test_what_was_taken_does_not_change_with_the_book():
    book = book_with(10)
    taken = book.take(np.array([1, 0]))
    book.settle(booking(1))
    assert taken[:3].tolist() == [[0, 1], [0, 10], [0, 0]]
    with pytest.raises(ValueError, match="read-only"):
        taken[0, 0] = 5


def test_nothing_is_booked_on_a_worker_that_is_not_listed():
    with pytest.raises(BrokenInvariant, match="not listed"):
        new_book().book(booking(1), WorkerId("x"), dispatch_seq=1, queued_tokens=1, now_ns=0)


STEP = st.tuples(
    st.sampled_from(["book", "first", "settle", "report"]), st.integers(0, 30), st.integers(0, 2)
)


@settings(max_examples=200, derandomize=True, deadline=None)
@given(st.lists(STEP, max_size=60))
def test_totals_always_agree_with_the_bookings(steps):
    book, live, seq = new_book(), {}, 0
    for verb, n, w in steps:
        worker = WorkerId(f"w{w}")
        if verb == "book" and booking(n) not in live:
            seq += 1
            live[booking(n)] = worker
            book.book(booking(n), worker, dispatch_seq=seq, queued_tokens=n * 10, now_ns=n)
        elif verb == "first" and booking(n) in live:
            book.first_token(booking(n), n)
        elif verb == "settle" and booking(n) in live:
            book.settle(booking(n))
            del live[booking(n)]
        elif verb == "report":
            book.report(worker, [session("me", ack=n, in_flight=1, queued=n)], 9)
        book.check()
        assert len(book) == len(live)
        loads = [book.load(worker_id) for worker_id in WORKERS]
        assert book.take(np.arange(4)).T.tolist() == [list(load) for load in loads]
        for name in map(WorkerId, ("w0", "w1", "w2")):
            assert book.load(name).in_flight == sum(v == name for v in live.values())
            assert book.load(name).queued_tokens >= 0
