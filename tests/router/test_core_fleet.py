"""RouterCore: workers that come, go and fall silent; no I/O, no real time."""

import pytest

from radixroute.events.wire.records import LoadReport
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.counters import Count
from radixroute.router.messages.actions import Connect, Disconnect, Dispatch, Drop
from radixroute.router.workers.members import MemberState
from tests.router.worlds import MS, S, World, facts, request, spec


def state_of(world: World, w: str) -> MemberState:
    member = world.core._state.members.get(WorkerId(w))
    assert member is not None
    return member.state


def test_silence_makes_suspect_then_dead_and_moves_the_streams():
    world = World("a", "b")
    client = world.submit(request("r", n=4))
    first = "a" if world.on("a") else "b"
    other = {"a": "b", "b": "a"}[first]
    world.workers[first].is_mute = True
    world.pass_time(1100 * MS)
    assert state_of(world, first) is MemberState.SUSPECT
    world.submit(request("new", policy="round_robin"))
    assert world.on(other) == ["new"]
    world.pass_time(1800 * MS)
    assert world.on(first) == ["r"]
    world.pass_time(200 * MS)
    assert state_of(world, first) is MemberState.DEAD
    assert sorted(world.on(other)) == ["new", "r"]
    for _ in range(5):
        world.step(other)
    assert client.end is FinishReason.LENGTH


def test_an_idle_router_may_rest_until_the_silence_of_a_worker_would_mean_something():
    world = World("a", "b")
    world.beat("a")
    world.beat("b")
    core, now_ns = world.core, world.now_ns
    assert core.rests_until_ns(now_ns) == now_ns + 1000 * MS
    world.workers["a"].is_mute = True
    world.pass_time(600 * MS)
    assert core.rests_until_ns(world.now_ns) == now_ns + 1000 * MS
    world.pass_time(400 * MS)
    assert state_of(world, "a") is MemberState.SUSPECT
    assert world.now_ns < core.rests_until_ns(world.now_ns) <= world.now_ns + 1000 * MS
    world.submit(request("r", n=4))
    assert core.rests_until_ns(world.now_ns) == world.now_ns


def test_silence_is_noticed_though_an_idle_router_rests():
    world = World("a", "b")
    world.beat("a")
    world.beat("b")
    core, heard_ns, now_ns = world.core, world.now_ns, world.now_ns
    core.tick(now_ns)
    states = [state_of(world, "a")]
    while len(states) < 3:  # only b is heard of
        now_ns = max(core.rests_until_ns(now_ns), now_ns + 10 * MS)
        core.heartbeat(WorkerId("b"), LoadReport(0.0, 1000, 0), now_ns)
        core.tick(now_ns)
        if state_of(world, "a") is not states[-1]:
            states.append(state_of(world, "a"))
            after_ns = (1 if len(states) == 2 else 3) * S
            assert 0 <= now_ns - heard_ns - after_ns <= 10 * MS
    assert states == [MemberState.LIVE, MemberState.SUSPECT, MemberState.DEAD]
    assert core.snapshot().counters.get(Count.TICKS_LATE.value, 0) == 0


def test_a_pause_of_its_own_after_a_rest_is_no_silence_of_others():
    world = World("a")
    world.beat("a")
    world.core.tick(world.now_ns)
    due_ns = world.core.rests_until_ns(world.now_ns)
    world.core.tick(due_ns + 5 * S)  # nothing was read meanwhile
    assert state_of(world, "a") is MemberState.SUSPECT
    assert world.core.snapshot().counters[Count.TICKS_LATE.value] == 1


def test_a_heartbeat_that_waited_counts_from_when_it_came():
    world = World("a")
    world.beat("a")
    world.workers["a"].is_mute = True
    core, came_ns = world.core, world.now_ns + 250 * MS
    load = LoadReport(0.0, 1000, 0)
    core.heartbeat(WorkerId("a"), load, world.now_ns + 900 * MS, heard_ns=came_ns)
    assert core.rests_until_ns(world.now_ns + 900 * MS) == came_ns + 1000 * MS
    core.heartbeat(WorkerId("a"), load, world.now_ns + 900 * MS, heard_ns=came_ns - MS)
    assert core.rests_until_ns(world.now_ns + 900 * MS) == came_ns + 1000 * MS


def test_a_suspect_that_is_heard_again_is_live_and_gets_what_waits():
    world = World("a")
    world.workers["a"].is_mute = True
    world.pass_time(1100 * MS)
    world.submit(request("r"))
    assert world.on("a") == []
    world.workers["a"].is_mute = False
    world.beat("a")
    assert state_of(world, "a") is MemberState.LIVE
    assert world.on("a") == ["r"]


def test_a_worker_that_fell_silent_must_be_heard_before_it_serves_again():
    world = World("a")
    world.workers["a"].is_mute = True
    world.pass_time(3100 * MS)
    assert state_of(world, "a") is MemberState.DEAD
    world.workers["a"].is_up = True
    world.join("a")
    assert state_of(world, "a") is MemberState.SUSPECT
    world.workers["a"].is_mute = False
    world.beat("a")
    assert state_of(world, "a") is MemberState.LIVE


def test_an_engine_that_finishes_no_step_is_suspected_then_given_up():
    """The process beats on while its engine hangs: heartbeats alone prove nothing."""
    world = World("a", "b")
    client = world.submit(request("r", n=4))
    first = "a" if world.on("a") else "b"
    other = {"a": "b", "b": "a"}[first]
    world.workers[first].step_age_ms = 6_000
    world.beat(first)
    assert state_of(world, first) is MemberState.SUSPECT
    world.beat(first)
    assert state_of(world, first) is MemberState.SUSPECT
    world.workers[first].step_age_ms = 31_000
    world.beat(first)
    assert state_of(world, first) is MemberState.DEAD
    for _ in range(4):
        world.step(other)
    assert client.end is FinishReason.LENGTH
    world.workers[first].is_up = True
    world.join(first)
    assert state_of(world, first) is MemberState.SUSPECT


def test_a_slow_step_that_ends_brings_the_worker_back():
    world = World("a")
    world.submit(request("r", n=4))
    world.workers["a"].step_age_ms = 6_000
    world.beat("a")
    world.step("a")
    assert state_of(world, "a") is MemberState.LIVE


def test_a_pause_of_the_router_itself_kills_nobody():
    world = World("a")
    world.pass_time(500 * MS)
    world.now_ns += 60 * S
    world.do(world.core.tick(world.now_ns))
    assert state_of(world, "a") is MemberState.LIVE
    assert world.core._state.counters[Count.TICKS_LATE] == 1


def test_a_lease_ends_with_its_worker():
    world = World("a")
    world.route(request("r"), "lease")
    world.kill("a")
    assert len(world.core._state.leases) == len(world.core._state.loads) == 0


def test_an_unlisted_worker_drains_and_goes():
    world = World("a", "b")
    world.submit(request("r", n=3))
    first = "a" if world.on("a") else "b"
    other = {"a": "b", "b": "a"}[first]
    assert world.do(world.core.set_members([spec(other)], world.now_ns)) == []
    assert state_of(world, first) is MemberState.DRAINING
    world.submit(request("new", policy="round_robin"))
    assert world.on(other) == ["new"]
    for _ in range(3):
        world.step(first)
    assert world.log[-1] == repr(Disconnect(WorkerId(first)))
    assert world.core._state.members.get(WorkerId(first)) is None


def test_an_unlisted_idle_worker_goes_at_once_and_may_come_back():
    world = World("a", "b")
    assert world.do(world.core.set_members([spec("a")], 0)) == [Disconnect(WorkerId("b"))]
    assert world.do(world.core.set_members([spec("a"), spec("b")], 0)) == [Connect(spec("b"))]


def test_a_new_incarnation_replaces_the_old_life():
    world = World("a", "b")
    client = world.submit(request("r", n=3))
    first = "a" if world.on("a") else "b"
    other = {"a": "b", "b": "a"}[first]
    actions = world.do(world.core.set_members([spec(first, 2), spec(other)], world.now_ns))
    kinds = [type(action) for action in actions]
    assert kinds == [Drop, Disconnect, Connect, Dispatch]
    for _ in range(3):
        world.step(other)
    assert client.end is FinishReason.LENGTH


def test_a_refused_worker_gets_nothing_and_says_why():
    world = World("a")
    world.do(world.core.set_members([spec("a"), spec("b")], 0))
    world.core.refused(WorkerId("b"), "block size 8 is not 16")
    world.core.refused(WorkerId("b"), "block size 8 is not 16")
    assert state_of(world, "b") is MemberState.REFUSED
    assert world.core._state.counters[Count.JOINS_REFUSED] == 1
    world.submit(request("r"))
    decision = world.core._state.log.get("r").decisions[0]
    assert [(e.worker_id, e.because) for e in decision.view.excluded] == [("b", "it is refused")]
    world.do(world.core.joined(facts("b"), 0))
    assert state_of(world, "b") is MemberState.LIVE


def test_an_impossible_transition_is_a_bug():
    world = World("a")
    member = world.core._state.members.get(WorkerId("a"))
    assert member is not None
    with pytest.raises(BrokenInvariant):
        world.core._state.members.move(member, MemberState.JOINING)
