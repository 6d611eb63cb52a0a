"""Lodestar: what first tokens take is learned from those observed, a slower worker's too."""

import random

import numpy as np
import pytest

from radixroute.radix.ids import WorkerId
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import cut
from radixroute.router.policy.baselines.lodestar import (
    FIRST_FIT,
    N_FEATURES,
    Lodestar,
    Predictor,
    Sample,
    features,
    pick,
    solved,
)
from radixroute.router.policy.decision import Decision
from tests.router.fixed_snapshot import make
from tests.router.scalar_score import Row, view
from tests.router.worlds import MS, World, request

A, B = WorkerId("a"), WorkerId("b")


def drawn(rng: random.Random):
    """A request and what two workers look like to it."""
    rows = [
        Row(name, rng.choice([0, 20, 60]), in_flight=n + 1, decoding=n, queued=rng.randrange(9000))
        for name, n in (("a", rng.randrange(8)), ("b", rng.randrange(8)))
    ]
    return view(*rows, tokens=rng.randrange(200, 9000))


def truth_ms(row: np.ndarray) -> float:
    """Of features, not all of which count: 20 ms, 80 and 60 for a thousand, 3 a decoding one."""
    return float(20.0 + 80.0 * row[1] + 60.0 * row[2] + 4.0 * row[3] + 3.0 * row[6])


def taught(n: int, *, slow: float, seed: int = 1, predictor: Predictor | None = None) -> Predictor:
    """Of prompts that alternate; on `b` they take `slow` times as long."""
    rng, predictor = random.Random(seed), predictor or Predictor()
    for i in range(n):
        what = drawn(rng)
        rows = features(what)
        worker = i % 2
        row = rows[:, worker]
        took_ms = truth_ms(row) * (slow if worker else 1.0)
        predictor.observe(Sample((A, B)[worker], tuple(row.tolist()), 0), took_ms)
    return predictor


def test_least_squares_are_the_best_that_no_weight_below_0_can_do():
    """Where a weight is above 0 the slope is 0, where it is 0 the slope goes up."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=(200, N_FEATURES))
    y = x @ rng.normal(size=N_FEATURES) + rng.normal(size=200) * 0.1
    found = np.array(solved((x.T @ x).tolist(), (x.T @ y).tolist(), [0.0] * N_FEATURES, 500))
    slope = x.T @ (x @ found - y)
    assert (found >= 0.0).all()
    assert 2 < (found > 0.0).sum() < N_FEATURES - 2
    assert np.abs(slope[found > 0.0]).max() < 1e-6
    assert slope[found == 0.0].min() > 0.0


def test_a_feature_that_never_was_there_weighs_nothing():
    assert solved([[4.0, 0.0], [0.0, 0.0]], [8.0, 0.0], [0.0, 0.0]) == [2.0, 0.0]


def test_more_load_than_was_ever_seen_is_never_thought_to_be_sooner():
    predictor = taught(400, slow=1.0)
    rows = [Row("a", queued=n * 9000, in_flight=n, decoding=0) for n in range(12)]
    what = view(*rows, tokens=900)
    totals = pick(what.with_own(predictor.fitted(what.worker_ids))).scores.totals
    assert (np.diff(totals) >= 0.0).all()


def test_what_first_tokens_take_is_learned_from_those_observed():
    predictor = taught(1000, slow=1.0)
    rng, errors = random.Random(9), []
    for _ in range(200):
        what = drawn(rng)
        scores = pick(what.with_own(predictor.fitted(what.worker_ids))).scores
        rows = features(what)
        for w in range(2):
            wanted = truth_ms(rows[:, w])
            errors.append(abs(scores.totals[w] - wanted) / wanted)
    assert np.mean(errors) < 0.03


def test_a_slower_worker_is_learned_and_passed_over_and_asked_again_once_it_recovered():
    predictor = taught(600, slow=3.0)
    assert predictor.pace(B) / predictor.pace(A) == pytest.approx(3.0, rel=0.15)
    rows = (Row("a", in_flight=1, queued=1500), Row("b", in_flight=1, queued=0))

    def choice() -> int:
        what = view(*rows, tokens=2000)
        return pick(what.with_own(predictor.fitted(what.worker_ids))).chosen

    assert choice() == 0, "90 ms of queue there, twice 196 ms more here"
    taught(600, slow=1.0, seed=2, predictor=predictor)
    assert predictor.pace(B) / predictor.pace(A) == pytest.approx(1.0, rel=0.1)
    assert choice() == 1
    predictor.forget(B)
    assert predictor.pace(B) == 1.0


def test_until_enough_was_seen_the_least_work_goes():
    predictor = taught(FIRST_FIT - 1, slow=1.0)
    what = view(Row("a", in_flight=4), Row("b", in_flight=1), own=predictor.fitted((A, B)))
    assert what.own is None
    assert pick(what).chosen == 1
    assert taught(1, slow=1.0, predictor=predictor).fitted((A, B)) is not None


def test_a_decision_keeps_what_it_was_made_from():
    """What is learned later does not change why a request went where it went."""
    predictor, what = taught(200, slow=1.0), view(Row("a"), Row("b", queued=700))
    judged = what.with_own(predictor.fitted(what.worker_ids))
    before = pick(judged).scores.terms.tolist()
    taught(600, slow=5.0, seed=8, predictor=predictor)
    assert pick(judged).scores.terms.tolist() == before
    assert Decision(1, "lodestar", judged, 0).view.own.weights.flags.writeable is False


def test_in_a_slower_fleet_the_slow_worker_gets_less():
    trace = cut(synthesize("chats", 1), 600)
    slow = FleetShape(4, 4096, 64, slowness=(4.0,))
    run = simulate(trace, "lodestar", Scenario(slow, speed=4.0))
    late = slice(300, None)  # it had to learn
    tokens = np.bincount(run.worker[late], (trace.input_tokens - run.cached_tokens)[late], 4)
    assert tokens[0] < 0.6 * tokens[1:].mean()


def policy_of(world: World) -> Lodestar:
    policy = world.core._state.selector.policy("lodestar")
    assert isinstance(policy, Lodestar)
    return policy


def test_each_attempt_is_a_sample_from_its_dispatch_to_its_first_token(monkeypatch):
    world = World(*"ab")
    seen: list[float] = []
    predictor = policy_of(world).predictor
    monkeypatch.setattr(predictor, "observe", lambda sample, took_ms: seen.append(took_ms))
    world.submit(request("r0", policy="lodestar", n=9))
    world.now_ns += 70 * MS
    (where,) = [w for w in "ab" if world.on(w)]
    world.step(where)
    assert seen == [70.0]
    world.step(where)
    assert seen == [70.0], "once an attempt"
    world.kill(where)
    world.now_ns += 30 * MS
    (other,) = [w for w in "ab" if world.on(w)]
    world.step(other)
    assert seen == [70.0, 30.0]


def test_what_ends_without_a_first_token_teaches_nothing_and_is_forgotten():
    world = World(*"ab")
    policy = policy_of(world)
    world.submit(request("r0", policy="lodestar"))
    assert len(policy._waiting) == 1
    world.abort("r0")
    world.submit(request("r1", policy="lodestar"))
    world.kill("a")
    world.kill("b")
    assert policy._waiting == {}
    assert policy.predictor._n == 0
    assert world.route(request("r2", policy="lodestar"), "lease") is None
    world.settle()
    assert policy._waiting == {}


def test_other_policies_samples_are_not_mixed_in():
    world = World(*"ab")
    policy = policy_of(world)
    world.submit(request("r0", policy="least_loaded", n=1))
    for w in "ab":
        world.step(w)
    assert policy.predictor._n == 0


def test_the_registry_makes_it():
    assert isinstance(make("lodestar"), Lodestar)
