"""Sessions to start a test from, and what a test starts and need not stop."""

import pytest

from tests.events.session_bench import Bench


@pytest.fixture
def fresh():
    return Bench()


@pytest.fixture
def live():
    return Bench(is_live=True)


@pytest.fixture
def started():
    """Makes publishers and receivers that are stopped at the end."""
    running = []

    def start(thing):
        running.append(thing)
        return thing

    yield start
    for thing in reversed(running):
        thing.stop()
