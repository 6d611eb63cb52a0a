"""Sessions to start a test from."""

import pytest

from tests.events.session_bench import Bench


@pytest.fixture
def fresh():
    return Bench()


@pytest.fixture
def live():
    return Bench(is_live=True)
