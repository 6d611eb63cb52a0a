"""What every policy promises, and what each promises alone."""

import random
from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy.forecast import expected_ttft_ms, expected_ttfts_ms
from radixroute.router.policy.radix.scores import radix_scores
from radixroute.router.policy.radix.weights import WEIGHTS
from radixroute.router.policy.reasons import reason_of
from radixroute.router.policy.registry import POLICIES, policy_named
from radixroute.router.policy.view import View
from tests.parts import examples
from tests.router.fixed_snapshot import FixedSnapshot, ask, decide, make
from tests.router.scalar_score import (
    MEAN_PREFILL_MS,
    Row,
    scalar_choice,
    scalar_terms,
    terms,
    view,
)


def random_rows(rng: random.Random) -> list[Row]:
    return [
        Row(
            f"w{i}",
            rng.choice([0, 0, 5, 60]),
            in_flight=rng.randint(0, 9),
            queued=rng.choice([0, 500]),
            decoding=rng.randint(0, 3),
            backlog_ms=rng.choice([0.0, 0.0, 80.0]),
            step_left_ms=rng.choice([0.0, 7.0]),
            recent_prefill=rng.choice([0.0, 1e4, 1e6]),
            max_batched_tokens=rng.choice([0, 512]),
        )
        for i in range(rng.randint(1, 9))
    ]


def random_view(rng: random.Random) -> View:
    return view(*random_rows(rng), draw=rng.getrandbits(64))


def chosen(policy: str, what: View) -> str:
    return decide(make(policy), what).worker_id


@pytest.mark.parametrize("name", POLICIES)
def test_a_policy_always_chooses_a_candidate_and_explains_every_one(name):
    rng, policy = random.Random(7), make(name)
    for _ in range(300):
        what = random_view(rng)
        decision = decide(policy, what)
        assert 0 <= decision.chosen < len(what.worker_ids)
        scores = policy.scores(decision.view)
        assert reason_of(decision, scores).endswith(".")
        assert scores.terms.shape == (len(scores.names), len(what.worker_ids))
        assert len(scores.units) == len(scores.names)
        assert all(scores.units)
        assert np.array_equal(scores.totals, sum(scores.terms))


@pytest.mark.parametrize("name", POLICIES)
def test_asking_changes_nothing(name):
    """Asked twice a policy answers twice the same, and asking leaves its next answers alone."""
    rng = random.Random(3)
    asked, acting = make(name), make(name)
    for _ in range(30):
        what = random_view(rng)
        for _ in range(3):
            first, again = (asked.choose(ask(), FixedSnapshot(what)).bound[0] for _ in range(2))
            assert first.decision.chosen == again.decision.chosen
            assert first.decision.reason == again.decision.reason
        one, other = decide(asked, what), decide(acting, what)
        assert (one.chosen, one.reason) == (other.chosen, other.reason)
        terms = [policy.scores(one.view).terms for policy in (asked, acting)]
        assert np.array_equal(terms[0], terms[1])


@pytest.mark.parametrize("policy", ["radix", "random", "least_loaded", "power_of_two"])
def test_equal_workers_share_the_choices_evenly(policy):
    rng = random.Random(5)
    fleet = [Row(f"w{i}") for i in range(4)]
    counts = Counter(chosen(policy, view(*fleet, draw=rng.getrandbits(64))) for _ in range(1000))
    assert min(counts.values()) > 210


def test_round_robin_takes_turns():
    fleet = [Row(name) for name in "abc"]
    policy = make("round_robin")
    assert "".join(decide(policy, view(*fleet)).worker_id for _ in range(7)) == "abcabca"


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
            Row(
                name,
                32 if name == "a" else 0,
                in_flight=n,
                decoding=n,
                recent_prefill=1000.0 * n,
                backlog_ms=100.0 * n,
            )
            for name, n in sorted(in_flight.items())
        ]
        in_flight[chosen("radix", view(*fleet, tokens=1500, draw=turn * 7919))] += 1
    assert max(in_flight.values()) <= 8
    assert min(in_flight.values()) >= 1


def test_requests_in_flight_take_no_cached_prefix_away():
    """Agents answer at length over prompts that are nearly all cached: being asked is no load."""
    what = view(Row("a", 60, in_flight=12, decoding=12), Row("b", in_flight=0))
    prefill = radix_scores(what).terms[1]
    assert prefill[0] < prefill[1]
    assert chosen("radix", what) == "a"


def test_a_worker_that_was_given_more_costs_more():
    assert chosen("radix", view(Row("a", recent_prefill=3e5), Row("b", recent_prefill=1e5))) == "b"


def test_the_step_that_runs_is_waited_for():
    rows = (Row("a", decoding=2, step_left_ms=9.0), Row("b", decoding=2, step_left_ms=2.0))
    assert chosen("radix", view(*rows)) == "b"


def test_a_score_is_the_sum_of_its_terms_in_milliseconds():
    row = Row("a", 10, in_flight=2, backlog_ms=50.0, decoding=1, recent_prefill=1.0)
    what = view(row, own=terms(followers=3.0, compute=1.5))
    scores = radix_scores(what)
    by_name = dict(zip(scores.names, scores.terms[:, 0].tolist(), strict=True))
    assert by_name["queue"] == 50.0
    assert by_name["prefill"] == 5.0 + (1000 - 160) * 0.5
    assert by_name["steps"] == 11.0
    assert by_name["compute"] == pytest.approx(1.5 * 425)
    assert by_name["slow_down"] == pytest.approx(
        2 * (WEIGHTS.answer * (425 + 32) + WEIGHTS.answers_to_come * 3 * (MEAN_PREFILL_MS + 32))
    )
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
    step_left_ms=st.sampled_from([0.0, 3.0]),
    recent_prefill=st.sampled_from([0.0, 1.0, 1e6]),
    max_batched_tokens=st.sampled_from([0, 512, 8192]),
    ms_per_prefill_token=SPEED,
    step_base_ms=SPEED,
    ms_per_decode=SPEED,
)


OURS = ["radix", "round_robin", "random", "least_loaded", "power_of_two"]


@examples(80, 300)
@pytest.mark.parametrize("policy", OURS)
def test_choice_and_terms_equal_the_scalar_arithmetic(policy, n_examples):
    asked = given(
        policy=st.just(policy),
        rows=st.lists(ROW, min_size=1, max_size=12),
        copies=st.integers(1, 3),
        tokens=st.sampled_from([1, 16, 17, 1000, 11_000]),
        turn=st.integers(0, 99),
        draw=st.integers(0, 2**64 - 1),
    )
    limits = settings(max_examples=n_examples, derandomize=True, deadline=None)
    limits(asked(assert_equals_the_scalar_arithmetic))()


def assert_equals_the_scalar_arithmetic(policy, rows, copies, draw, tokens, turn):
    rows *= copies  # exact ties
    what = view(*rows, draw=draw, tokens=tokens)
    asked = make(policy)
    for _ in range(turn if policy == "round_robin" else 0):
        decide(asked, what)
    decision = decide(asked, what)
    if policy == "round_robin":
        assert decision.chosen == turn % len(rows)
    else:
        if policy == "radix":
            what = what.with_own(decision.view.own)  # its guess of what follows
        assert decision.chosen == scalar_choice(policy, what, rows)
    terms = asked.scores(decision.view).terms
    if policy == "radix":
        wanted = [scalar_terms(what, row, rows) for row in rows]
        names = asked.scores(decision.view).names
        for name, term in zip(names, terms, strict=True):
            assert term.tolist() == pytest.approx([terms[name] for terms in wanted], rel=1e-12)
        forecast = sum(wanted[decision.chosen][name] for name in ("queue", "prefill", "steps"))
        assert decision.ttft_ms == pytest.approx(forecast, rel=1e-12)
    else:
        assert terms.tolist() == [[float(row.in_flight) for row in rows]]
        parts = scalar_terms(what, rows[decision.chosen], rows)
        forecast = sum(parts[name] for name in ("queue", "prefill", "steps"))
        assert expected_ttft_ms(what, decision.chosen) == pytest.approx(forecast, rel=1e-12)
        assert expected_ttfts_ms(what)[decision.chosen] == pytest.approx(forecast, rel=1e-12)


@pytest.mark.parametrize(
    ("in_flight", "crowding"),
    [((3, 3, 3, 3), 0.0), ((5, 1, 4, 2), 0.0), ((12, 0, 0, 0), 1.0 - 3.0 / 27.0), ((9,), 0.0)],
)
def test_answers_weigh_more_only_where_workers_differ_by_more_than_chance(in_flight, crowding):
    """Requests given at random vary by as much as they are many: 5, 1, 4, 2 by 2.5, less than 3."""
    rows = [Row(f"w{i}", in_flight=n) for i, n in enumerate(in_flight)]
    scores = radix_scores(view(*rows))
    slow_down = scores.terms[scores.names.index("slow_down"), 0]
    price = WEIGHTS.answer + WEIGHTS.answers_to_come * crowding
    assert slow_down == pytest.approx(in_flight[0] * price * (505 + 32))
