"""What every policy promises, and what each promises alone."""

import random
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy.score import kernels, radix_scores
from radixroute.router.policy.selector import MIN_CAP, load_cap
from radixroute.router.policy.table import POLICIES, policy_named
from radixroute.router.policy.view import View
from tests.router.scalar_score import Row, scalar_choice, scalar_terms, view


def random_rows(rng: random.Random) -> list[Row]:
    return [
        Row(
            f"w{i}",
            rng.choice([0, 0, 5, 60]),
            in_flight=rng.randint(0, 9),
            queued=rng.choice([0, 500]),
            decoding=rng.randint(0, 3),
            backlog_ms=rng.choice([0.0, 0.0, 80.0]),
            pass_ms=rng.choice([0.0, 7.0]),
            fill=rng.choice([0.0, 1e4, 1e6]),
            max_batched_tokens=rng.choice([0, 512]),
        )
        for i in range(rng.randint(1, 9))
    ]


def random_view(rng: random.Random) -> View:
    rows = random_rows(rng)
    made = view(*rows, turn=rng.randint(0, 99), draw=rng.getrandbits(64))
    if rng.random() < 0.5:
        active, new = np.array([[rng.randint(0, 90) for _ in rows] for _ in range(2)], np.float64)
        made = replace(made, active_blocks=active, new_blocks=new)
    return made


def chosen(policy: str, what: View) -> str:
    return what.worker_ids[POLICIES[policy].choose(what).chosen]


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_always_chooses_a_candidate_and_explains_every_one(policy):
    rng = random.Random(7)
    for _ in range(300):
        what = random_view(rng)
        choice = POLICIES[policy].choose(what)
        assert 0 <= choice.chosen < len(what.worker_ids)
        assert choice.reason.endswith(".")
        names, units, terms = choice.scores.names, choice.scores.units, choice.scores.terms
        assert terms.shape == (len(names), len(what.worker_ids))
        assert len(units) == len(names)
        assert all(units)
        assert np.array_equal(choice.scores.totals, sum(terms))


@pytest.mark.parametrize("policy", POLICIES)
def test_the_same_view_gives_the_same_choice(policy):
    what = random_view(random.Random(3))
    first, again = POLICIES[policy].choose(what), POLICIES[policy].choose(what)
    assert (first.chosen, first.reason) == (again.chosen, again.reason)
    assert np.array_equal(first.scores.terms, again.scores.terms)


@pytest.mark.parametrize("policy", ["radix", "random", "least_loaded", "power_of_two"])
def test_equal_workers_share_the_choices_evenly(policy):
    rng = random.Random(5)
    fleet = [Row(f"w{i}") for i in range(4)]
    counts = Counter(chosen(policy, view(*fleet, draw=rng.getrandbits(64))) for _ in range(4000))
    assert min(counts.values()) > 850


def test_round_robin_takes_turns():
    fleet = [Row(name) for name in "abc"]
    assert "".join(chosen("round_robin", view(*fleet, turn=t)) for t in range(7)) == "abcabca"


def test_least_loaded_takes_the_fewest_in_flight():
    fleet = [Row(n, in_flight=f) for n, f in (("a", 3), ("b", 1), ("c", 2))]
    assert chosen("least_loaded", view(*fleet)) == "b"


def test_power_of_two_never_takes_the_most_loaded():
    fleet = [Row(n, in_flight=f) for n, f in (("a", 3), ("b", 9), ("c", 2))]
    rng = random.Random(2)
    seen = {chosen("power_of_two", view(*fleet, draw=rng.getrandbits(64))) for _ in range(200)}
    assert seen == {"a", "c"}


def test_radix_goes_where_the_prefix_is():
    assert chosen("radix", view(Row("a"), Row("b", 50))) == "b"


def test_radix_prefers_the_longer_prefix():
    assert chosen("radix", view(Row("a", 20), Row("b", 50))) == "b"


def test_radix_leaves_a_busy_holder_when_waiting_costs_more_than_computing():
    busy = Row("a", 30, in_flight=2, backlog_ms=2000.0)
    assert chosen("radix", view(busy, Row("b", in_flight=1))) == "b"


def test_radix_stays_with_a_holder_that_is_a_little_busier():
    holder = Row("a", 60, in_flight=3, decoding=3)
    assert chosen("radix", view(holder, Row("b", in_flight=2, decoding=2))) == "a"


def test_a_shared_trunk_does_not_starve_the_others():
    """512 tokens that everyone shares lie on one of four workers: the others still get work."""
    in_flight = Counter({"a": 0, "b": 0, "c": 0, "d": 0})
    for turn in range(12):
        fleet = [
            Row(name, 32 if name == "a" else 0, in_flight=n, decoding=n, fill=1000.0 * n)
            for name, n in sorted(in_flight.items())
        ]
        in_flight[chosen("radix", view(*fleet, tokens=1500, draw=turn * 7919))] += 1
    assert max(in_flight.values()) <= 8
    assert min(in_flight.values()) >= 1


def test_cache_credit_lifts_no_worker_above_the_cap():
    what = view(Row("a", 60, in_flight=8), Row("b", in_flight=0))
    assert what.cap == MIN_CAP == 8
    prefill = radix_scores(what).terms[1]
    assert prefill[0] == prefill[1]
    assert chosen("radix", what) == "b"


def test_the_cap_is_a_bounded_share_of_the_load():
    assert load_cap(np.array([0.0, 0.0]), 1.5) == MIN_CAP
    assert load_cap(np.array([25.0, 14.0]), 1.5) == 30


def test_a_worker_that_was_given_more_costs_more():
    assert chosen("radix", view(Row("a", fill=3e5), Row("b", fill=1e5))) == "b"


def test_the_pass_that_runs_is_waited_for():
    rows = (Row("a", decoding=2, pass_ms=9.0), Row("b", decoding=2, pass_ms=2.0))
    assert chosen("radix", view(*rows)) == "b"


def test_a_score_is_the_sum_of_its_terms_in_milliseconds():
    what = view(Row("a", 10, in_flight=2, backlog_ms=50.0, decoding=1, fill=1.0))
    scores = radix_scores(what)
    by_name = dict(zip(scores.names, scores.terms[:, 0].tolist(), strict=True))
    assert by_name["queue"] == 50.0
    assert by_name["prefill"] == 5.0 + (1000 - 160) * 0.5
    assert by_name["steps"] == 11.0
    assert by_name["compute"] == pytest.approx(0.15 * 425)
    assert by_name["slow_down"] == pytest.approx(kernels().SLOW_DOWN_WEIGHT * 2 * (425 + 32))
    assert by_name["turnover"] == pytest.approx(0.15 * (840 + 32) * 0.5)
    assert set(scores.units) == {"ms"}
    assert scores.totals.tolist() == pytest.approx([sum(by_name.values())])


def test_one_prompt_token_is_always_computed():
    what = view(Row("a", 4), tokens=64)
    assert what.cached_tokens(4) == 48
    assert what.cached_tokens(0) == 0


def test_an_unknown_policy_names_the_known_ones():
    with pytest.raises(UnknownPolicy, match="least_loaded"):
        policy_named("best")


SPEED = st.sampled_from([0.01, 0.5, 1.0, 7.3])
ROW = st.builds(
    Row,
    st.just("w"),
    st.sampled_from([0, 1, 5, 60, 700]),
    in_flight=st.integers(0, 9),
    queued=st.sampled_from([0, 1, 500, 100_000]),
    decoding=st.integers(0, 9),
    backlog_ms=st.sampled_from([0.0, 0.01, 55.0]),
    pass_ms=st.sampled_from([0.0, 3.0]),
    fill=st.sampled_from([0.0, 1.0, 1e6]),
    max_batched_tokens=st.sampled_from([0, 512, 8192]),
    ms_per_prefill_token=SPEED,
    step_base_ms=SPEED,
    ms_per_decode=SPEED,
)


OURS = ["radix", "round_robin", "random", "least_loaded", "power_of_two"]


@pytest.mark.parametrize("policy", OURS)
@settings(max_examples=300, derandomize=True, deadline=None)
@given(
    rows=st.lists(ROW, min_size=1, max_size=12),
    copies=st.integers(1, 3),
    tokens=st.sampled_from([1, 16, 17, 1000, 11_000]),
    turn=st.integers(0, 99),
    draw=st.integers(0, 2**64 - 1),
)
def test_choice_and_terms_equal_the_scalar_arithmetic(policy, rows, copies, draw, **request):
    rows *= copies  # exact ties
    what = view(*rows, draw=draw, **request)
    choice = POLICIES[policy].choose(what)
    assert choice.chosen == scalar_choice(policy, what, rows)
    if policy == "radix":
        wanted = [scalar_terms(what, row, rows) for row in rows]
        for name, term in zip(choice.scores.names, choice.scores.terms, strict=True):
            assert term.tolist() == pytest.approx([terms[name] for terms in wanted], rel=1e-12)
    else:
        assert choice.scores.terms.tolist() == [[float(row.in_flight) for row in rows]]
