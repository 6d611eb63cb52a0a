"""Idle while waiting: exact, and planned told from avoidable."""

import random

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import StepReport
from radixroute.router.policy.policy import Plan
from tests.router.worlds import MS, S, World, request


def sums(world, w):
    found = world.core._state.idle.of(WorkerId(w))
    return found.planned_ns, found.avoidable_ns, found.starting_ns


def held_elsewhere(world, w="a", prefix=7):
    """A prompt that is nearly all in one worker's cache, and that worker busy with a short one."""
    long = request("long", prefix=prefix, blocks=200, shared=200, policy="radix")
    world.index.held[WorkerId(w)].update(long.keys.tolist())
    for worker in world.workers:  # a prompt without its blocks takes a second, a decode pass 5 ms
        for tokens in (1600, 3200):
            world.core._state.speeds.observe(
                WorkerId(worker), step_ms=tokens / 3.2, prefill_tokens=tokens, decode_tokens=0,
                now_ns=world.now_ns,
            )  # fmt: skip
    return long


def busy_holder():
    world = World("a", "b")
    long = held_elsewhere(world)
    world.submit(request("first", prefix=7, blocks=201, shared=200, policy="radix", n=50))
    assert world.on("a") == ["first"]
    world.submit(long)
    assert [r.request_id for r in world.core._state.waiting] == ["long"]
    return world


def test_waiting_for_the_holder_is_planned_idling_of_the_other():
    world = busy_holder()
    world.now_ns += 7 * MS
    world.do(world.core.schedule_waiting(world.now_ns))
    assert sums(world, "b") == (7 * MS, 0, 0)
    assert sums(world, "a") == (0, 0, 0)  # it had something to run
    world.step("a")  # the first token of what it has: now it takes the other
    assert world.on("a") == ["first", "long"]
    world.now_ns += 9 * MS
    world.do(world.core.schedule_waiting(world.now_ns))
    assert sums(world, "b") == (7 * MS, 0, 0)  # nothing waits any more


def test_what_waits_by_another_rule_makes_idling_avoidable(monkeypatch):
    world = World("a", "b")
    policy = world.core._state.selector.policy("radix_at_once")
    monkeypatch.setattr(policy, "_binds_late", True)
    monkeypatch.setattr(policy, "plan", lambda *_: Plan())
    world.submit(request("r"))
    world.now_ns += 3 * MS
    world.do(world.core.schedule_waiting(world.now_ns))
    assert sums(world, "a") == sums(world, "b") == (0, 3 * MS, 0)


def test_a_lease_that_ends_plans_at_once_for_what_waits():
    world = busy_holder()
    lease = world.route(request("leased", policy="radix"), "lease")
    assert lease.worker_id == "b"
    world.now_ns += 2 * MS
    assert world.release("lease")
    world.now_ns += 5 * MS
    world.do(world.core.schedule_waiting(world.now_ns))
    assert sums(world, "b") == (5 * MS, 0, 0)


def test_an_abort_plans_at_once_for_what_waits():
    world = busy_holder()
    world.abort("first")
    assert world.on("a") == ["long"]


def test_the_way_to_an_idle_worker_is_counted_for_what_had_waited():
    world = World("a")
    world.kill("a")
    world.submit(request("r", policy="radix"))
    world.now_ns += 1 * S
    world.revive("a")
    assert world.on("a") == ["r"]
    world.now_ns += 12 * MS
    report = StepReport(5.0, 131, 0, ())
    world.do(world.core.step(WorkerId("a"), report, world.now_ns))
    assert sums(world, "a") == (0, 0, 7 * MS)  # 12 ms, of which the step was 5
    world.do(world.core.step(WorkerId("a"), report, world.now_ns + 9 * MS))
    assert sums(world, "a")[2] == 7 * MS  # the next step ends no way


def test_a_request_that_is_bound_when_it_comes_has_not_waited():
    """Reading its prompt took a while: that is no time in the queue."""
    for policy in ("radix", "round_robin"):
        world = World("a")
        world.now_ns += 20 * MS
        world.submit(request("r", policy=policy, now_ns=world.now_ns - 15 * MS))
        world.now_ns += 12 * MS
        world.do(world.core.step(WorkerId("a"), StepReport(5.0, 131, 0, ()), world.now_ns))
        assert sums(world, "a") == (0, 0, 0)


def test_a_dead_worker_does_not_idle_and_keeps_what_it_had():
    world = busy_holder()
    world.now_ns += 4 * MS
    world.kill("b")
    world.now_ns += 100 * MS
    world.do(world.core.schedule_waiting(world.now_ns))
    assert sums(world, "b") == (4 * MS, 0, 0)


def turn_of(world, rng, turn):
    """Mostly requests and steps; now and then a death or a return."""
    w, kind = rng.choice("abc"), rng.randrange(25)
    if kind == 0 and world.workers[w].is_up:
        world.kill(w)
    elif kind == 1:
        world.revive(w)
    elif kind < 4:
        world.beat(w)
    elif kind < 13:
        blocks, prefix, n = rng.choice([2, 200]), rng.randrange(3), rng.randrange(1, 6)
        what = {"prefix": prefix, "blocks": blocks, "shared": blocks, "policy": "radix"}
        world.submit(request(f"r{turn}", n=n, now_ns=world.now_ns, **what))
    else:
        world.step(w)


@pytest.mark.parametrize("seed", [0, 4, 7])
def test_the_sums_are_the_integral_of_what_can_be_seen(seed):
    """Beside a plain sum over every span in which something waits and a worker has nothing."""
    rng = random.Random(seed)
    world = World("a", "b", "c")
    expected = dict.fromkeys("abc", 0)
    for turn in range(150):
        if turn % 30 == 0:
            for prefix, w in enumerate("aab"):
                held_elsewhere(world, w, prefix)
        spent, state = rng.choice([0, 1, 3, 40]) * MS, world.core._state
        for w in "abc":
            has_nothing = not state.loads.load(WorkerId(w)).in_flight
            if world.workers[w].is_up and len(state.waiting) and has_nothing:
                expected[w] += spent
        world.now_ns += spent
        turn_of(world, rng, turn)
        # Inputs that found nothing to do let no time pass: this one does.
        world.do(world.core.schedule_waiting(world.now_ns))
    assert {w: sum(sums(world, w)[:2]) for w in "abc"} == expected
    assert sum(expected.values()) > 0
