"""Consistent hashing with bounded loads: nobody is given more than the bound, whatever comes."""

import random
from math import ceil

import numpy as np
import pytest

from radixroute.router.policy.baselines.hashed.bounded_loads import Bound, pick
from tests.router.scalar_score import Row, view
from tests.router.worlds import World, request


def owner(place: int, *names: str, full: str = "") -> str:
    rows = [Row(name, in_flight=5 if name in full else 1) for name in names]
    what = view(*rows, own=Bound(place, 5.0))
    return what.worker_ids[pick(what).chosen]


def places(n: int, seed: int = 0) -> list[int]:
    rng = random.Random(seed)
    return [rng.getrandbits(64) for _ in range(n)]


@pytest.mark.parametrize("prefixes", [1, 3, 40])
def test_no_worker_is_ever_given_more_than_the_bound(prefixes):
    rng, world = random.Random(prefixes), World(*"abcde")
    n_passed_on = 0
    homes: dict[int, str] = {}
    for n in range(250):
        before = {w: len(world.on(w)) for w in "abcde"}
        prefix = rng.randrange(prefixes)
        what = request(
            f"r{n}", prefix, policy="bounded_loads", blocks=70, shared=64, n=rng.randint(1, 30)
        )
        world.submit(what)
        after = {w: len(world.on(w)) for w in "abcde"}
        (chosen,) = [w for w in "abcde" if after[w] > before[w]]
        assert after[chosen] <= ceil(1.25 * sum(after.values()) / 5)
        n_passed_on += homes.setdefault(prefix, chosen) != chosen
        for w in "abcde":
            if rng.random() < 0.3:
                world.step(w)
    assert n_passed_on > 0, "the bound was never met: nothing was tested"


def test_what_begins_alike_goes_to_one_worker_as_far_as_the_bound_allows():
    world = World(*"abcdefgh")
    homes = set()
    for n in range(12):
        world.submit(request(f"r{n}", 7, policy="bounded_loads", blocks=70, shared=64, n=1))
        (where,) = [w for w in world.workers if world.on(w)]
        homes.add(where)
        world.step(where)
    assert len(homes) == 1


def test_beginnings_spread_over_the_ring():
    owners = [owner(place, *"abcd") for place in places(2000)]
    assert min(owners.count(w) for w in "abcd") > 350


def test_a_worker_that_leaves_or_comes_moves_only_what_it_has():
    for place in places(300):
        before = owner(place, *"abcd")
        assert before == "c" or owner(place, *"abd") == before
        assert owner(place, *"abcde") in {before, "e"}


def test_a_full_worker_passes_on_to_the_next_on_the_ring():
    moved = set()
    for place in places(300):
        first, second = owner(place, *"abcd"), owner(place, *"abcd", full="b")
        assert second == owner(place, *"acd") if first == "b" else second == first
        moved |= {second} if first == "b" else set()
    assert moved == set("acd"), "what one has goes to several: its places are spread"


def test_the_reason_and_the_terms_say_who_was_full():
    place = next(p for p in places(50) if owner(p, "a", "b") == "b")
    rows = [Row("a", in_flight=1), Row("b", in_flight=5)]
    choice = pick(view(*rows, own=Bound(place, 5.0)))
    assert choice.chosen == 0
    assert choice.reason.startswith("Those before it")
    assert choice.scores.terms[1].tolist() == [0.0, 2.0]
    assert np.all(choice.scores.terms[0] < 1.0)
    first = pick(view(*rows, own=Bound(place, 6.0)))
    assert (first.chosen, first.reason.startswith("It is the first")) == (1, True)
