"""What every policy promises, and what each promises alone."""

import random
from collections import Counter
from dataclasses import replace

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.candidates import Candidate, View
from radixroute.router.errors import UnknownPolicy
from radixroute.router.load_book import Load
from radixroute.router.policies import POLICIES, policy_named
from radixroute.router.score import credit_blocks, radix_score
from radixroute.router.selection import load_cap
from radixroute.router.speed import Speed


def candidate(name: str, overlap: int = 0, **changes) -> Candidate:
    load = Load(changes.pop("in_flight", 0), changes.pop("queued", 0), changes.pop("decoding", 0))
    return Candidate(WorkerId(name), overlap, 0, load, Speed(0.5, 10.0, 1.0), **changes)


def view(*candidates: Candidate, tokens: int = 1000, **changes) -> View:
    made = View(
        prompt_tokens=tokens,
        block_size=16,
        output_tokens=32.0,
        candidates=candidates,
        cap=load_cap(candidates, 1.5),
        turn=0,
        draw=0,
    )
    return replace(made, **changes)


def random_view(rng: random.Random) -> View:
    candidates = tuple(
        candidate(
            f"w{i}",
            rng.choice([0, 0, 5, 60]),
            in_flight=rng.randint(0, 9),
            queued=rng.choice([0, 500]),
            kv_blocks_total=rng.choice([0, 100]),
            kv_blocks_used=rng.randint(0, 100),
            max_batched_tokens=rng.choice([0, 512]),
        )
        for i in range(rng.randint(1, 9))
    )
    return view(*candidates, turn=rng.randint(0, 99), draw=rng.getrandbits(64))


def chosen(policy: str, what: View) -> str:
    return what.candidates[POLICIES[policy](what).chosen].worker_id


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_always_chooses_a_candidate_and_explains_every_one(policy):
    rng = random.Random(7)
    for _ in range(300):
        what = random_view(rng)
        choice = POLICIES[policy](what)
        assert 0 <= choice.chosen < len(what.candidates)
        assert len(choice.scores) == len(what.candidates)
        assert choice.reason.endswith(".")
        assert all(term.unit for score in choice.scores for term in score.terms)


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_view_gives_the_same_choice(policy):
    what = random_view(random.Random(3))
    assert POLICIES[policy](what) == POLICIES[policy](what)


@pytest.mark.parametrize("policy", ["radix", "random", "least_loaded", "power_of_two"])
def test_equal_workers_share_the_choices_evenly(policy):
    rng = random.Random(5)
    fleet = [candidate(f"w{i}") for i in range(4)]
    counts = Counter(chosen(policy, view(*fleet, draw=rng.getrandbits(64))) for _ in range(4000))
    assert min(counts.values()) > 850


def test_round_robin_takes_turns():
    fleet = [candidate(name) for name in "abc"]
    assert "".join(chosen("round_robin", view(*fleet, turn=t)) for t in range(7)) == "abcabca"


def test_least_loaded_takes_the_fewest_in_flight():
    fleet = [candidate(n, in_flight=f) for n, f in (("a", 3), ("b", 1), ("c", 2))]
    assert chosen("least_loaded", view(*fleet)) == "b"


def test_power_of_two_never_takes_the_most_loaded():
    fleet = [candidate(n, in_flight=f) for n, f in (("a", 3), ("b", 9), ("c", 2))]
    rng = random.Random(2)
    seen = {chosen("power_of_two", view(*fleet, draw=rng.getrandbits(64))) for _ in range(200)}
    assert seen == {"a", "c"}


def test_radix_goes_where_the_prefix_is():
    assert chosen("radix", view(candidate("a"), candidate("b", 50))) == "b"


def test_radix_prefers_the_longer_prefix():
    assert chosen("radix", view(candidate("a", 20), candidate("b", 50))) == "b"


def test_radix_leaves_a_busy_holder_when_waiting_costs_more_than_computing():
    busy = candidate("a", 30, in_flight=2, queued=4000)
    assert chosen("radix", view(busy, candidate("b", in_flight=1))) == "b"


def test_radix_stays_with_a_holder_that_is_a_little_busier():
    holder = candidate("a", 60, in_flight=3, decoding=3)
    assert chosen("radix", view(holder, candidate("b", in_flight=2, decoding=2))) == "a"


def test_a_shared_trunk_does_not_starve_the_others():
    """512 tokens that everyone shares lie on one of four workers: the others still get work."""
    in_flight = Counter({"a": 0, "b": 0, "c": 0, "d": 0})
    for turn in range(12):
        fleet = [
            candidate(name, 32 if name == "a" else 0, in_flight=n, decoding=n)
            for name, n in sorted(in_flight.items())
        ]
        in_flight[chosen("radix", view(*fleet, tokens=1500, draw=turn * 7919))] += 1
    assert max(in_flight.values()) <= 5
    assert min(in_flight.values()) >= 1


def test_cache_credit_lifts_no_worker_above_the_cap():
    fleet = [candidate("a", 60, in_flight=4), candidate("b", in_flight=0)]
    what = view(*fleet)
    assert what.cap == 4
    assert credit_blocks(what, fleet[0]) == 0
    assert chosen("radix", what) == "b"
    rng = random.Random(11)
    for _ in range(500):
        what = random_view(rng)
        winner = what.candidates[POLICIES["radix"](what).chosen]
        if winner.load.in_flight + 1 > what.cap:
            plain = replace(winner, overlap_blocks=0)
            assert radix_score(what, winner) == radix_score(what, plain)


def test_the_cap_is_a_bounded_share_of_the_load():
    assert load_cap((candidate("a"), candidate("b")), 1.5) == 2
    assert load_cap((candidate("a", in_flight=5), candidate("b", in_flight=4)), 1.5) == 8


def test_evicting_costs_and_free_room_does_not():
    full = candidate("a", kv_blocks_total=100, kv_blocks_used=100)
    assert chosen("radix", view(full, candidate("b", kv_blocks_total=100))) == "b"


def test_a_score_is_the_sum_of_its_terms_in_milliseconds():
    what = view(candidate("a", 10, in_flight=2, queued=100, decoding=1))
    score = radix_score(what, what.candidates[0])
    by_name = {term.name: term.value for term in score.terms}
    assert by_name["queue"] == 50.0
    assert by_name["prefill"] == (1000 - 160) * 0.5
    assert by_name["steps"] == 11.0
    assert by_name["compute"] == pytest.approx(0.15 * 420)
    assert by_name["slow_down"] == pytest.approx(0.25 * 2 * (420 + 32))
    assert {term.unit for term in score.terms} == {"ms"}
    assert score.total == pytest.approx(sum(by_name.values()))


def test_one_prompt_token_is_always_computed():
    what = view(candidate("a", 4), tokens=64)
    assert what.cached_tokens(4) == 48
    assert what.cached_tokens(0) == 0


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(UnknownPolicy, match="least_loaded"):
        policy_named("best")
