"""Whatever happens, every request ends once, its stream is whole, and nothing stays booked."""

import random
from collections import Counter
from functools import cache

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.core.requests import Request
from radixroute.router.messages.actions import Failure
from radixroute.router.policy.registry import POLICIES
from tests.router.tapes import check_grammar
from tests.router.worlds import MS, World, request, spec

WORKERS = "abc"
SEEDS, ALL_SEEDS = range(26), range(60)  # the others are deep


def live_a_while(world: World, rng: random.Random, steps: int = 150) -> None:
    """Requests, steps, deaths, silence, leases, aborts, repeats, lost ends and changes of the list,
    at random."""
    for turn in range(steps):
        w = rng.choice(WORKERS)
        match rng.randrange(13):
            case 0 | 1 | 2:
                policy = rng.choice(sorted(POLICIES))
                made = request(
                    f"{turn:04d}",
                    rng.randrange(4),
                    n=rng.randint(1, 6),
                    now_ns=world.now_ns,
                    policy=policy,
                )
                world.submit(made)
            case 3 | 4 | 5 | 6:
                world.step(w)
            case 7:
                world.pass_time(rng.choice([50, 200, 800]) * MS)
            case 8:
                world.kill(w) if rng.random() < 0.4 else world.revive(w)
            case 9:
                world.workers[w].is_mute = rng.random() < 0.5
                world.workers[w].loses_ends = rng.random() < 0.3
            case 10 if world.clients:
                world.abort(rng.choice(list(world.clients)))
            case 11:
                world.deliver(w, world.workers[w].last)
            case 12:
                shake_members_and_leases(world, rng, turn)


def shake_members_and_leases(world: World, rng: random.Random, turn: int) -> None:
    world.core.cache_believed(WorkerId(rng.choice(WORKERS)), rng.random() < 0.7)
    if any(m.state.value == "live" for m in world.core._state.members):
        world.route(request(f"L{turn}"), f"L{turn}")
        world.core.check()
    if rng.random() < 0.5:
        world.release(f"L{rng.randrange(turn + 1)}")


def fresh_run(seed: int) -> World:
    world = World(*WORKERS, seed=seed)
    live_a_while(world, random.Random(seed))
    world.settle()
    world.pass_time(31_000 * MS, tick_ns=450 * MS)  # every lease and expectation lapses
    return world


run = cache(fresh_run)


@pytest.mark.parametrize(
    "seed", [*SEEDS, *(pytest.param(seed, marks=pytest.mark.deep) for seed in ALL_SEEDS[20:])]
)
def test_every_request_ends_exactly_once_and_nothing_is_left(seed):
    world = run(seed)
    ends = [client.end for client in world.clients.values()]
    assert None not in ends
    allowed = {FinishReason.LENGTH, Failure.TOO_MANY_DEATHS, Failure.NO_WORKERS, "aborted"}
    assert set(ends) <= allowed
    state = world.core._state
    assert len(state.requests) == len(state.loads) == len(state.waiting) == len(state.leases) == 0
    assert all(state.expected.n_blocks(WorkerId(w)) == 0 for w in WORKERS)
    assert sum(state.hits.of(w).requests for w in state.hits.workers()) <= len(world.clients)


def test_the_random_worlds_really_do_what_they_are_meant_to():
    """A property that never meets a death or a resume proves nothing."""
    totals = sum((counted(seed) for seed in SEEDS), start=Counter[str]())
    for name in (
        "requests_finished",
        "requests_resumed",
        "requests_failed_after_two_deaths",
        "requests_aborted_by_client",
        "requests_waited_for_a_worker",
        "workers_suspected",
        "deltas_dropped_duplicate",
        "deltas_dropped_old_attempt",
        "leases_granted",
        "leases_lapsed",
        "attempts_lost_by_workers",
    ):
        assert totals[name] >= 10, name


def counted(seed: int) -> Counter[str]:
    return Counter(run(seed).core._state.counters.as_dict())


@pytest.mark.parametrize("seed", range(5))
def test_the_same_seed_gives_the_same_actions(seed):
    assert run(seed).log == fresh_run(seed).log


@pytest.mark.parametrize("seed", range(5))
def test_the_short_way_of_a_token_changes_nothing(seed, monkeypatch):
    short = run(seed)
    n_short = list[bool]()
    continues = Request.continues
    monkeypatch.setattr(
        Request,
        "continues",
        lambda one, delta: n_short.append(continues(one, delta)) or False,  # type: ignore[func-returns-value]
    )
    long = fresh_run(seed)
    assert sum(n_short) >= 10
    assert long.log == short.log
    assert long.core.snapshot() == short.core.snapshot()
    assert served(long) == served(short)


def served(world: World) -> dict[str, int]:
    tenants = world.core._state.waiting.tenants
    return {name: one.served for name, one in (tenants._idle | tenants.waiting).items()}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_tape_tells_every_request_once_and_in_order(seed):
    world = run(seed)
    told = check_grammar(world.tape._records)
    refused = [end for end in (c.end for c in world.clients.values()) if end is Failure.QUEUE_FULL]
    assert len(told.closed) + len(refused) == len(world.clients) + told.outcomes["leased"]
    counters = world.core._state.counters.as_dict()
    assert told.outcomes["length"] == counters["requests_finished"]
    assert told.outcomes["abort"] == counters["requests_aborted_by_client"]
    assert told.outcomes["leased"] == counters["leases_granted"]
    # Some end before they are sent on.
    assert 0 <= counters.get("requests_resumed", 0) - told.n_resumed <= len(world.clients)


def test_another_seed_gives_other_choices():
    assert run(1).log != World(*WORKERS, seed=2).log


def test_lists_may_change_at_any_moment():
    for seed in range(8):
        rng, world = random.Random(seed), World(*WORKERS, seed=seed)
        for turn in range(60):
            listed = [w for w in WORKERS if rng.random() < 0.7] or ["a"]
            if rng.random() < 0.2:
                world.do(world.core.set_members([spec(w) for w in listed], world.now_ns))
                for w in listed:
                    if not world.workers[w].is_up:
                        world.revive(w)
            world.submit(request(f"{turn:04d}", rng.randrange(3), n=3, now_ns=world.now_ns))
            world.step(rng.choice(WORKERS))
            world.pass_time(100 * MS)
        world.do(world.core.set_members([spec(w) for w in WORKERS], world.now_ns))
        world.settle()
        assert all(client.end is not None for client in world.clients.values())
