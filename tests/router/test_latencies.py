"""How long requests took, in buckets: on the core's own clock, each request once, at its end."""

import pytest
from msgspec.structs import replace

from radixroute.request.sampling import FinishReason
from radixroute.router.core.latencies import EndLatencies
from radixroute.router.core.snapshot import RouterSnapshot
from radixroute.router.messages.actions import Emit
from radixroute.router.messages.inputs import Delta, Resumed
from tests.router.worlds import MS, World, packed, request, token


def counts(of: EndLatencies) -> tuple[int, int, int, int]:
    return (
        sum(of.queue.counts),
        sum(of.first_token.counts),
        sum(of.token.counts),
        sum(of.whole.counts),
    )


def seen(world: World) -> RouterSnapshot:
    return world.core.snapshot()


def test_a_request_counts_once_at_its_end_with_what_it_took():
    world = World("a")
    world.submit(request("r", n=3))
    for position, at_ms in ((0, 200), (1, 300), (2, 500)):
        assert dict(seen(world).latencies) == {}
        world.now_ns = at_ms * MS
        finish = FinishReason.LENGTH if position == 2 else None
        world.deliver("a", [Delta("r", 1, position, packed(token("r", position)), "x", finish)])
    (outcome,) = seen(world).latencies
    assert outcome == "length"
    of = seen(world).latencies[outcome]
    assert counts(of) == (1, 1, 1, 1)
    assert of.queue.total == 0.0
    assert of.first_token.total == pytest.approx(0.2)
    assert of.token.total == pytest.approx(0.15)
    assert of.whole.total == pytest.approx(0.5)


def test_what_never_got_a_token_has_no_time_to_it():
    world = World("a")
    world.submit(request("r", n=3))
    world.now_ns = 100 * MS
    world.core.abort("r", world.now_ns)
    of = seen(world).latencies["abort"]
    assert counts(of) == (1, 0, 0, 1)
    assert of.whole.total == pytest.approx(0.1)


def test_a_stream_that_began_elsewhere_is_not_counted_with_the_part_seen_here():
    world = World("a")
    emitted = packed(*(token("r", position) for position in range(3)))
    what = replace(request("r", n=3), resumed=Resumed(emitted, 3, 1))
    actions = world.core.submit(what, 5 * MS)
    assert [type(action) for action in actions] == [Emit]  # all it owed was its finish
    assert dict(seen(world).latencies) == {}
