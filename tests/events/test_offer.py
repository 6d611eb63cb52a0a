"""Whoever consumes messages takes them from their sockets itself, unless it does not come."""

import threading
from typing import Any

import pytest

from radixroute.events.settings import SubscriberSettings
from radixroute.events.subscribe.inbox import Inbox
from radixroute.events.subscribe.offer import Offer
from radixroute.events.wire.control import Delivery, Malformed
from tests.events.fakes import HOLDER


def test_a_consumer_that_comes_takes_what_is_offered_on_its_own_thread():
    takers, asked = [], threading.Event()
    offer = Offer(lambda: takers.append(threading.current_thread()))
    thread = threading.Thread(target=offer.make, args=(asked.set,))
    thread.start()
    assert asked.wait(30)
    offer.take()
    thread.join(30)
    assert len(takers) == 1
    offer.take()  # nothing is offered
    assert len(takers) == 1


def test_what_nobody_comes_for_is_taken_by_the_thread_and_once():
    takers = []
    offer = Offer(lambda: takers.append(threading.current_thread()))
    for n in range(1, 3):
        offer.make(lambda: None)
        offer.take()  # too late
        assert takers == n * [threading.current_thread()]


def test_a_consumer_may_take_it_where_it_is_asked():
    taken = []
    offer = Offer(lambda: taken.append(1))
    offer.make(offer.take)
    offer.make(offer.take)
    assert taken == [1, 1]


def test_an_offer_that_failed_is_over_and_the_next_one_stands():
    failures = [LookupError]

    def take():
        if failures:
            raise failures.pop()

    offer, asked = Offer(take), threading.Event()
    thread = threading.Thread(target=offer.make, args=(asked.set,))
    thread.start()
    assert asked.wait(30)
    with pytest.raises(LookupError):
        offer.take()
    thread.join(30)
    assert not thread.is_alive()
    offer.make(offer.take)


def test_a_hand_over_that_could_not_collect_is_followed_by_others():
    calls, seen, failures = list[Any](), list[Any](), [LookupError]

    def collect():
        if failures:
            raise failures.pop()

    inbox = Inbox(seen.extend, calls.append, SubscriberSettings(), collect)
    inbox.put(Delivery(HOLDER, Malformed("x")), 1)
    inbox.call()
    inbox.call()
    with pytest.raises(LookupError):
        calls.pop()()
    assert calls == []
    inbox.flush()
    calls.pop()()
    assert len(seen) == 1
