"""The whole demo but the model: three policies over real gRPC against a fake router."""

import io
import json

import pytest
from rich.console import Console

from radixroute.demo.plan import POLICIES, DemoPlan, planned_working_set
from radixroute.demo.result.report import demo_record, faults_of, write_record
from radixroute.demo.screen import TerminalScreen
from radixroute.demo.series import Demo, run_demo, started
from radixroute.demo.workload.chats import ChatShape, make_workload
from tests.demo.fake_router import ByteTokenizer, FakeCluster

SHAPE = ChatShape(
    chats=9,
    min_turns=3,
    max_turns=4,
    min_answer_tokens=15,
    max_answer_tokens=15,
    arrivals_s=0.05,
    median_think_s=0.01,
    longest_think_s=0.02,
)


def screen():
    return TerminalScreen(Console(file=io.StringIO(), width=120))


def demo(there_and_back=False, seeds=(1,)):
    workloads = tuple(make_workload(seed, SHAPE) for seed in seeds)
    return Demo(workloads, DemoPlan(), ByteTokenizer(), there_and_back)


def pool_of(one):
    return round(0.6 * planned_working_set(one.workloads[0], one.tokenizer, 16).distinct_blocks)


def play(one, spoil="", pool=None):
    shown = screen()
    cluster = FakeCluster(POLICIES[0], pool or pool_of(one), spoil)
    with started(cluster, shown):
        runs = run_demo(one, cluster, shown)
    assert cluster.stops == 1
    return runs, shown.console.file.getvalue()


@pytest.fixture(scope="module")
def played():
    one = demo()
    return one, *play(one)


def test_each_policy_runs_once_in_order_and_without_a_fault(played):
    _, runs, _ = played
    assert [run.policy for run in runs] == list(POLICIES)
    assert faults_of(runs) == []


def test_the_warm_up_counts_nowhere(played):
    one, runs, _ = played
    for run in runs:
        assert sum(run.requests_per_worker.values()) == one.workloads[0].n_requests
        assert run.hits.prompt_tokens == sum(a.prompt_tokens for a in run.outcome.requests)


def test_a_chat_that_stays_with_its_worker_hits_more_and_nobody_passes_the_ceiling(played):
    _, runs, _ = played
    by_policy = {run.policy: run for run in runs}
    # How turns interleave is up to real time: round robin's rate spreads over 0.53 to 0.61, that of
    # chats that stay is always 0.668.
    assert by_policy["radix"].hit_rate > by_policy["round_robin"].hit_rate
    assert all(0 < run.hit_rate <= run.ceiling.hit_rate for run in runs)


def test_the_record_has_the_keys_that_readers_rely_on(played, tmp_path):
    one, runs, _ = played
    path = tmp_path / "results" / "demo.json"
    write_record(path, demo_record(one.workloads, one.plan, runs, {"machine": {}, "versions": {}}))
    record = json.loads(path.read_text())
    assert {"runs", "ceiling", "workload", "machine", "versions"} <= set(record)
    for run in record["runs"]:
        assert {"policy", "hit_rate", "ttft_ms", "requests_per_worker"} <= set(run)
        assert set(run["ttft_ms"]) == {"mean", "p50", "p99"}
        assert run["ttft_ms"]["mean"] > 0
        assert run["errors"] == 0
    assert list(tmp_path.rglob("*.new")) == []


def test_progress_and_the_sample_answer_are_shown(played):
    _, runs, shown = played
    assert "why is the sky blue" in shown.lower()
    assert shown.count("answer ") >= len(runs)
    assert f"{len(runs[0].outcome.requests)}/{len(runs[0].outcome.requests)} answered" in shown


def test_there_and_back_runs_each_policy_twice_for_each_seed():
    order = [(workload.seed, policy) for workload, policy in demo(True, (1, 2)).order]
    a, b, c = POLICIES
    assert [policy for _, policy in order] == [a, b, c, c, b, a] * 2
    assert [seed for seed, _ in order] == [1] * 6 + [2] * 6


def test_failed_requests_are_shown_and_make_the_runs_unfit():
    runs, shown = play(demo(), spoil="fail")
    faults = faults_of(runs)
    assert any("no worker left (request 35) (UNAVAILABLE)" in fault for fault in faults)
    assert any("never sent" in fault for fault in faults)
    assert "FAULT" in shown


def test_engines_and_answers_that_disagree_make_the_runs_unfit():
    runs, _ = play(demo(), spoil="miscount")
    assert any("cached tokens, answers say" in fault for fault in faults_of(runs))


def test_a_pool_outside_its_share_makes_the_runs_unfit():
    one = demo()
    runs, _ = play(one, pool=2 * pool_of(one))
    assert len([fault for fault in faults_of(runs) if "of the working set" in fault]) == 3


class BrokenCluster(FakeCluster):
    """Fails as it starts."""

    def start(self, progress=None):
        super().start(progress)
        raise OSError("no room")


def test_a_cluster_that_fails_to_start_is_stopped():
    cluster = BrokenCluster(POLICIES[0], 100)
    with pytest.raises(OSError, match="no room"), started(cluster, screen()):
        pass
    assert cluster.stops == 1
