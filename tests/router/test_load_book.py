"""Load book: nothing counts twice, nothing is forgotten, reports and bookings add up."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.events.wire.records import SessionLoad
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.load import (
    MOST_STEP_NS,
    USUAL_REST,
    BookingId,
    Load,
    LoadBook,
)

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


def shared_book(queued: int = 0) -> LoadBook:
    """Another router was named in a report at 100 ns."""
    book = new_book()
    book.report(W, [session("me", 0, 0, 0), session("other", 1, 1, queued)], now_ns=100)
    return book


def test_a_step_of_others_prompts_is_work_until_a_report_says_what_is_left():
    book = shared_book()
    assert book.is_shared(W)
    assert book.others_began(W, 300, 150, a_step=1000) == 300
    assert book.others_began(W, 200, 150, a_step=1000) == 200, "of one step"
    assert book.load(W).queued_tokens == 500
    assert book.load(W).since_ns == 150
    assert book.others_began(W, 200, 170, a_step=1000) == 200, "of the next one: the first is over"
    assert book.load(W).queued_tokens == 200
    book.check()
    book.report(W, [session("me", 0, 0, 0), session("other", 2, 1, 40)], now_ns=200)
    assert book.load(W).queued_tokens == 200, "it may still run"
    later_ns = 200 + MOST_STEP_NS
    book.report(W, [session("me", 0, 0, 0), session("other", 2, 1, 40)], now_ns=later_ns)
    assert book.load(W).queued_tokens == 40
    book.check()


def test_what_was_reported_as_waiting_counts_once_when_its_step_begins():
    book = shared_book(queued=400)
    book.others_began(W, 300, 150, a_step=1000)
    assert book.load(W).queued_tokens == 400
    assert book.load(W).since_ns == 150, "the work goes on"


def test_no_more_counts_than_a_step_computes_and_nothing_from_before_the_report():
    book = shared_book()
    assert book.others_began(W, 5000, 150, a_step=1000) == 1000
    assert book.others_began(W, 5000, 150, a_step=1000) == 0
    assert book.load(W).queued_tokens == 1000 + USUAL_REST, "what fills a step goes on"
    late = shared_book()  # reported at 100
    assert late.others_began(W, 500, 99, a_step=1000) == 500, "its cache filled all the same"
    assert late.load(W).queued_tokens == 0


def test_a_worker_is_shared_as_long_as_its_reports_name_others():
    book = shared_book()
    assert not book.is_shared(WORKERS[1])
    book.report(W, [session("me", 0, 0, 0)], now_ns=200)
    assert not book.is_shared(W)


def test_how_long_prompts_that_fill_a_step_usually_are_is_learned_of_our_own():
    book = shared_book()
    for n in range(200):
        book.book(booking(n), W, dispatch_seq=n + 1, queued_tokens=1400, now_ns=1, a_step=1000)
        book.settle(booking(n))
    book.others_began(W, 1000, 150, a_step=1000)
    assert book.load(W).queued_tokens == pytest.approx(1400, abs=2)


@given(
    st.lists(
        st.tuples(
            st.sampled_from(["began", "report", "book", "settle"]),
            st.integers(0, 1200),
            st.integers(0, 400 * 10**6),
        ),
        max_size=30,
    )
)
@settings(max_examples=60, deadline=None)
def test_columns_say_what_the_bookings_do_whatever_is_heard_of_others(history):
    """Whatever the order: also what is heard late."""
    book, booked = shared_book(), 0
    for what, tokens, now_ns in history:
        book.now()
        match what:
            case "began":
                book.others_began(W, tokens, now_ns, a_step=1000)
            case "report":
                mine, other = session("me", 0, 0, 0), session("other", 1, 1, tokens)
                book.report(W, [mine, other], now_ns)
            case "book":
                booked += 1
                book.book(
                    booking(booked), W, dispatch_seq=booked, queued_tokens=tokens, now_ns=now_ns
                )
            case _ if booked:
                book.settle(booking(booked))
                booked -= 1
        book.check()
