"""The long fuzzer of bodies: it runs, and it notices what it is for."""

import pytest

from radixroute.router.api.http.asked import bodies
from tests.tools.fuzz_bodies import BODIES, fuzz


def test_bodies_are_read_as_if_they_had_no_such_fields():
    seen = fuzz(seed=1, bodies=2000)
    assert seen["read"] > 1000
    assert seen["refused"] > 100


def test_a_field_that_comes_through_is_seen(monkeypatch):
    monkeypatch.setattr(bodies, "_own", lambda decoder, fields, name, allowed: fields.get(name))
    with pytest.raises(AssertionError):
        fuzz(seed=1, bodies=2000)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_a_million_bodies():
    seen = fuzz(seed=7, bodies=BODIES)
    assert sum(seen.values()) == BODIES
