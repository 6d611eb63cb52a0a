"""RouterCore with streams that another router began."""

from dataclasses import replace

from radixroute.radix.ids import WorkerId
from radixroute.router.core.requests import ATTEMPTS_A_RESUME
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Dispatch
from radixroute.router.messages.inputs import PackedTokens, Resumed
from tests.router.worlds import S, World, packed, request, token


def resumed(request_id: str, have: int, number: int = 1, **more):
    spec = request(request_id, **more)
    emitted = packed(*(token(request_id, position) for position in range(have)))
    return replace(spec, resumed=Resumed(PackedTokens(emitted), have, number))


def counters(world):
    return world.core._state.counters


def test_who_lost_a_router_waits_before_all_who_come_anew_and_counts_as_no_new_request():
    world = World("a", seats=1, queue=1, max_waiting=2)
    for name in ("r0", "r1", "r2", "r3"):
        world.submit(request(name, n=9))
    assert world.core.n_waiting == 2
    world.core.submit(resumed("old", 3, n=9), world.now_ns)
    front = world.core._state.waiting.front(world.now_ns, 8)
    assert [one.request_id for one in front.lost] == ["old"]
    assert counters(world)[Count.QUEUE_OVERFLOWED] == 0
    world.core.check()


def test_what_a_resume_has_is_not_computed_and_its_prompt_not_counted_again():
    world = World("a")
    actions = world.core.submit(resumed("old", 3, number=2, n=9), world.now_ns)
    (dispatch,) = actions
    assert isinstance(dispatch, Dispatch)
    assert dispatch.attempt == 2 * ATTEMPTS_A_RESUME + 1
    assert (dispatch.emitted_text_len, len(dispatch.emitted)) == (3, 12)
    one = world.core._state.requests.get("old")
    assert one is not None
    assert one.position == 3
    assert one.is_counted
    assert one.usage().attempts == 1
    assert world.core._state.hits.of(WorkerId("a")).requests == 0


def test_the_time_of_an_ended_stream_does_not_end_its_resume():
    world = World("a")
    world.submit(request("r", n=9, deadline_ns=world.now_ns + S))
    world.core.abort("r", world.now_ns)
    world.core.submit(resumed("r", 1, n=9, deadline_ns=world.now_ns + 60 * S), world.now_ns)
    world.core.tick(world.now_ns + 2 * S)
    assert "r" in world.core._state.requests
    assert counters(world)[Count.DEADLINES_PASSED] == 0
    world.core.check()
