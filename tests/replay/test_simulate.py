"""The real router over simulated workers: the same every time, and what is wrong shows."""

from dataclasses import replace

import numpy as np
import pytest

from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import LINEAR
from radixroute.replay.lab import LabSettings, replay_all
from radixroute.replay.report.report import results_json
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import Simulation, simulate
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.reshape import capped, cut
from radixroute.replay.traces.trace import Trace, sessions
from radixroute.router.errors import UnknownPolicy
from radixroute.router.policy.registry import LAB_POLICIES
from tests.replay.conversation import conversation

SHAPE = FleetShape(workers=4, kv_blocks=2048, block_size=64)


@pytest.fixture(scope="module")
def chats() -> Trace:
    return cut(synthesize("chats", 3), 400)


def columns(run):
    return [
        run.worker.tolist(),
        run.decided_ns.tolist(),
        run.admitted_ns.tolist(),
        run.first_ns.tolist(),
        run.finish_ns.tolist(),
        run.cached_tokens.tolist(),
        run.predicted_tokens.tolist(),
    ]


def idle(run):
    """Rows: planned, avoidable, starting; ns of each worker."""
    assert run.idle_ns is not None
    return run.idle_ns.T


@pytest.mark.parametrize("policy", sorted(LAB_POLICIES))
def test_every_request_is_served_once_and_in_order_of_its_times(chats, policy):
    run = simulate(chats, policy, Scenario(SHAPE))
    assert (run.worker >= 0).all()
    assert (run.arrival_ns <= run.decided_ns).all()
    assert (run.decided_ns <= run.admitted_ns).all()
    assert (run.admitted_ns < run.first_ns).all()
    assert (run.first_ns <= run.finish_ns).all()
    assert (run.cached_tokens < chats.input_tokens).all()
    assert (run.recomputed_tokens >= 0).all()


RUN_TWICE = (
    "radix",
    "random",
    "dynamo_wspt",
    "dualmap",
    "load_gradient",
    "lodestar",
    "bounded_loads",
)


@pytest.mark.parametrize("policy", RUN_TWICE)
def test_the_same_seed_gives_the_same_run_and_another_another(chats, policy):
    first = columns(simulate(chats, policy, Scenario(SHAPE, seed=5)))
    assert first == columns(simulate(chats, policy, Scenario(SHAPE, seed=5)))
    if policy == "random":
        assert first != columns(simulate(chats, policy, Scenario(SHAPE, seed=6)))


def test_with_events_at_once_every_prediction_is_what_the_engine_finds(chats):
    """Nothing is evicted between decision and admission when the caches are large."""
    large = replace(SHAPE, kv_blocks=1 << 15)
    run = simulate(chats, "radix_at_once", Scenario(large))
    assert run.counters["evicted_blocks"] == 0
    assert np.array_equal(run.predicted_tokens, run.cached_tokens)


def test_no_worker_idles_while_requests_wait_but_as_planned(chats):
    """The same counter as a live router's; a way of 2 ms shows as what it is."""
    agents = cut(synthesize("agent_trees", 1), 300)
    planned, avoidable, starting = idle(simulate(agents, "radix", Scenario(SHAPE)))
    assert planned.sum() > 0
    assert (avoidable.tolist(), starting.tolist()) == ([0] * 4, [0] * 4)
    prompts = capped(chats, 1)  # nothing decodes: a worker has nothing until the next one is there
    far = Scenario(SHAPE, speed=30.0, conditions=Conditions(dispatch_ms=2.0))
    _, avoidable, starting = idle(simulate(prompts, "radix", far))
    assert avoidable.sum() == 0
    assert starting.sum() > 0
    assert (starting % 2_000_000 == 0).all()
    assert idle(simulate(prompts, "radix_at_once", far)).sum() == 0  # nothing ever waits


def test_late_events_make_predictions_wrong_and_little_else(chats):
    late = simulate(chats, "radix", Scenario(SHAPE, conditions=Conditions(event_delay_ms=5000.0)))
    now = simulate(chats, "radix", Scenario(SHAPE))
    assert (late.predicted_tokens != late.cached_tokens).any()
    assert late.ttft_ms.mean() < 1.2 * now.ttft_ms.mean()


def test_a_dispatch_on_its_way_arrives_late(chats):
    run = simulate(chats, "round_robin", Scenario(SHAPE, conditions=Conditions(dispatch_ms=2.0)))
    assert (run.admitted_ns - run.decided_ns).min() >= 2_000_000


def test_a_slow_worker_gets_less(chats):
    slow = replace(SHAPE, slowness=(4.0,))
    run = simulate(chats, "radix", Scenario(slow, speed=4.0))
    tokens = np.bincount(run.worker, chats.input_tokens - run.cached_tokens, 4)
    assert tokens[0] < 0.6 * tokens[1:].mean()


def test_a_follow_up_comes_after_the_one_before_it_ended():
    trace = Trace(
        name="two turns",
        block_size=64,
        arrival_ns=np.array([0, 5_000_000_000]),
        input_tokens=np.array([640, 1280]),
        output_tokens=np.array([10, 10]),
        first_block=np.array([0, 10, 30]),
        blocks=np.array([*range(10), *range(20)]),
        after=np.array([-1, 0]),
    )
    run = simulate(trace, "radix", Scenario(SHAPE, LINEAR, speed=2.0))
    assert run.arrival_ns[1] == run.finish_ns[0] + 2_500_000_000
    assert run.worker[0] == run.worker[1]
    assert run.cached_tokens[1] == 640


def test_round_robin_agrees_with_the_peers_published_replay():
    """Dynamo's offline replay (wheel 1.6.1) of this trace: 0.0817, 321.1, 184.1, 2048, 7.59."""
    trace = conversation()
    run = simulate(trace, "round_robin", Scenario(FleetShape(8, 16384, 64)))
    ttft = run.ttft_ms
    assert run.reuse == pytest.approx(0.0817, abs=5e-5)
    assert ttft.mean() == pytest.approx(321.14, rel=1e-3)
    assert np.percentile(ttft, [50, 99]) == pytest.approx([184.13, 2048.5], rel=1e-3)
    assert run.mean_itl_ms == pytest.approx(7.588, rel=1e-3)


@pytest.mark.deep
def test_the_default_policy_stays_as_good_as_it_was():
    trace = conversation()
    scenario = Scenario(FleetShape(8, 16384, 64))
    radix, preset = (simulate(trace, p, scenario) for p in ("radix", "dynamo_agentic"))
    assert radix.ttft_ms.mean() < 0.87 * preset.ttft_ms.mean()
    assert np.percentile(radix.ttft_ms, 99) < 1.02 * np.percentile(preset.ttft_ms, 99)
    assert radix.mean_itl_ms < 1.06 * preset.mean_itl_ms


def test_load_stays_within_the_cap_where_one_prefix_is_hot():
    trace = synthesize("hot_prefix", 1)
    run = simulate(trace, "radix", Scenario(FleetShape(4, 4096, 64), speed=8.0))
    events = [
        (ns, 1, w) for ns, w in zip(run.decided_ns.tolist(), run.worker.tolist(), strict=True)
    ]
    events += [
        (ns, 0, w) for ns, w in zip(run.finish_ns.tolist(), run.worker.tolist(), strict=True)
    ]
    load, above = np.zeros(4, int), 0
    for _, is_start, worker in sorted(events):
        cap = max(8, -(-3 * (load.sum() + 1) // 8))
        above += bool(is_start) and load[worker] >= cap
        load[worker] += 1 if is_start else -1
    assert run.reuse >= 0.8
    assert above <= 0.01 * len(trace), "above it no cache credit draws: few still find it shortest"


def test_a_lab_runs_what_was_asked_and_accounts_for_every_token(chats):
    settings = LabSettings(("radix", "random"), workers=(2, 4), speeds=(1.0, 3.0), kv_blocks=2048)
    told = []
    report = replay_all(chats, settings, lambda *what: told.append(what[:2]))
    assert told == [(n, 8) for n in range(9)]
    assert len(report.runs) == 8
    for run in report.runs:
        lost = sum(run.request_losses.values())
        cached, again = run.result.cached_tokens, run.result.recomputed_tokens
        assert np.array_equal(cached + lost, chats.input_tokens + again)
        assert run.result.reuse <= report.bounds["infinite"]
    assert '"of_reachable"' in results_json(report)


def test_settings_that_cannot_be_run_are_named():
    with pytest.raises(UnknownPolicy):
        LabSettings(("best",))
    assert LabSettings(("random", "all")).chosen.count("random") == 1
    assert LabSettings(seed=1).digest != LabSettings(seed=2).digest


def test_requests_that_wait_for_each_other_are_one_session():
    trace = synthesize("chats", 3)
    after = np.array([-1, 0, -1, 1, -1, 4, 0])
    few = replace(cut(trace, 7), after=after)
    assert sessions(few).tolist() == [0, 0, -1, 0, 4, 4, 0]


def test_session_affinity_keeps_a_chat_on_one_worker_while_there_is_room(chats):
    run = simulate(chats, "session_affinity", Scenario(SHAPE, speed=0.01))
    of = sessions(chats)
    assert {len(set(run.worker[of == session])) for session in set(of.tolist()) - {-1}} == {1}


def test_prefix_approx_knows_little_less_than_events_tell(chats):
    told = simulate(chats, "radix", Scenario(SHAPE))
    learned = simulate(chats, "prefix_approx", Scenario(SHAPE))
    scattered = simulate(chats, "random", Scenario(SHAPE))
    assert scattered.reuse < learned.reuse <= told.reuse * 1.02


@pytest.mark.parametrize("policy", ["radix", "random", "dynamo_wspt", "prefix_approx"])
@pytest.mark.parametrize("conditions", [Conditions(), Conditions(60.0, 3.0, 1.3, 0.8)])
def test_looking_at_every_pass_changes_nothing(monkeypatch, policy, conditions):
    """A run that hears of everything at once, as a live router does."""
    mixed = cut(synthesize("agent_trees", 2), 150)
    scenario = Scenario(replace(SHAPE, kv_blocks=900), speed=3.0, conditions=conditions)
    plain = columns(simulate(mixed, policy, scenario))
    monkeypatch.setattr(Simulation, "_stop", lambda self: at.REPORT)
    monkeypatch.setattr(Simulation, "_is_looked_at", lambda self, now_ns: True)
    assert columns(simulate(mixed, policy, scenario)) == plain
