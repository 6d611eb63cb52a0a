"""`replay --live` and `replay capture` against real routers, over fake workers."""

from pathlib import Path
from typing import cast

import numpy as np
import pytest

from radixroute.cli.replay import command
from radixroute.client import AsyncRouterClient
from radixroute.errors import BadInput, RequestFailed
from radixroute.live import lab
from radixroute.live.cluster import ClusterFacts, Fitting, ask_cluster, fit_trace
from radixroute.live.lab import LiveOptions, run_live, simulate_beside
from radixroute.live.replay import LiveRun, replay_live
from radixroute.protos import radixroute_pb2 as pb
from radixroute.replay.lab import LabSettings
from radixroute.replay.report.report import Report
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.own_format import write_own
from tests.replay.traces import trace_of
from tests.router.clusters import all_live, cluster, until
from tests.router.fakes import FakeWorker

ROOT = Path(__file__).resolve().parents[2]
MS = 1_000_000
FACTS = ClusterFacts("radix", ("a", "b"), 4, 97, 256, 32, 512, 64)


def chats(n=6, block_size=4):
    """Chats of two turns that share a trunk: the second turn follows the end of the first."""
    rows: list[tuple[object, ...]] = []
    for chat in range(n):
        own = 100 + 10 * chat
        rows.append((chat * 8 * MS, 4 * block_size, 3, [1, 2, 3, own], None))
        blocks = [1, 2, 3, own, own + 1, own + 2]
        rows.append((5 * MS, 6 * block_size - 1, 4, blocks, 2 * chat))
    return trace_of(rows, block_size=block_size, name="chats")


def write(trace, name):
    with Path(name).open("wb") as file:
        write_own(trace, file)


def nothing(*_told):
    """Nobody watches."""


async def test_the_last_request_of_each_session_says_so_if_that_is_asked_for():
    workers = FakeWorker("a"), FakeWorker("b")
    async with (
        cluster(*workers) as (service, _, _),
        AsyncRouterClient(f"127.0.0.1:{service.address.port}") as client,
    ):
        await until(lambda: all_live(service), 30)
        facts = await ask_cluster(client)
        run = LiveRun("radix", speed=0.5, session_ends=1.0)
        await replay_live(client, chats(n=3), facts, run, nothing)
    told = [one.last_of_session for worker in workers for one in worker.seen]
    assert sorted(told) == [0, 0, 0, 2, 2, 2]


async def test_each_request_is_sent_at_its_time_and_timed_here():
    async with (
        cluster(FakeWorker("a"), FakeWorker("b")) as (service, _, _),
        AsyncRouterClient(f"127.0.0.1:{service.address.port}") as client,
    ):
        await until(lambda: all_live(service), 30)
        facts = await ask_cluster(client)
        trace = chats()
        found = await replay_live(client, trace, facts, LiveRun("radix", speed=0.5), nothing)
    result = found.result
    assert not found.failures
    assert (found.short_outputs, found.missed_log, found.restarts) == (0, 0, 0)
    assert (result.first_ns > result.arrival_ns).all()
    assert (result.finish_ns >= result.first_ns).all()
    assert (result.decided_ns >= result.arrival_ns).all()
    assert result.lateness_ns is not None
    assert result.idle_ns is not None
    timed = trace.after < 0
    # Open loop: never before its time, and as late as is said.
    due = result.arrival_ns - result.lateness_ns
    assert due[timed].tolist() == (trace.arrival_ns[timed] * 2).tolist()
    ended = result.finish_ns[trace.after[~timed]]
    assert (result.arrival_ns[~timed] >= ended + 10 * MS).all()
    assert set(result.worker.tolist()) <= {0, 1}
    assert result.cached_tokens.sum() > 0
    assert result.idle_ns.shape == (2, 3)
    # Nothing idled that a plan had not weighed, but for the turn of the loop when a request came.
    assert result.idle_ns[:, 1].sum() < 5 * MS * len(trace)


async def test_requests_that_fail_are_counted_and_none_answered_is_an_error():
    trace = chats(2)
    async with cluster(FakeWorker("a")) as (service, _, _):
        address = f"127.0.0.1:{service.address.port}"
        await until(lambda: all_live(service), 30)
        async with AsyncRouterClient(address) as client:
            facts = await ask_cluster(client)
            run = LiveRun("no_such_policy")
            found = await replay_live(client, trace, facts, run, nothing)
            assert sum(found.failures.values()) == len(trace)
            assert (found.result.first_ns == -1).all()
        options = LiveOptions(address)
        measured = await run_live(trace, LabSettings(("radix",)), options, nothing)
    measured.live[0] = found
    with pytest.raises(RequestFailed, match=r"no request of 4 was answered; 4 requests failed"):
        simulate_beside(measured, nothing, "")


async def test_a_cluster_without_workers_says_so():
    async with cluster() as (service, _, _):
        options = LiveOptions(f"127.0.0.1:{service.address.port}")
        with pytest.raises(RequestFailed, match="no worker is live"):
            await run_live(chats(), LabSettings(), options, nothing)


def test_what_does_not_fit_says_which_option_would_make_it():
    long = trace_of([(0, 8, 1, [1, 2]), (1, 120, 20, range(30)), (2, 8, 1, [1, 2])])
    with pytest.raises(BadInput, match=r"1 requests are too long.*number 1, 140 tokens.*0\.91"):
        fit_trace(long, FACTS, Fitting())
    trace, left_out = fit_trace(long, FACTS, Fitting(skip_long=True))
    assert (len(trace), left_out) == (2, 1)
    assert fit_trace(long, FACTS, Fitting(max_output=8))[1] == 0
    odd = trace_of([(0, 8, 1, [1, 2])], block_size=6)
    with pytest.raises(BadInput, match="blocks of 6 tokens and the cluster of 4: give --scale"):
        fit_trace(odd, FACTS, Fitting())
    assert fit_trace(odd, FACTS, Fitting(scale_lengths=1.0))[0].block_size == 8


def test_capture_tells_what_it_could_not_get(cli, script, router):
    def entry(number, outcome="length"):
        return pb.EndedRequest(
            number=number,
            arrival_ns=number * 1000,
            prompt_tokens=5,
            output_tokens=2,
            block_size=4,
            outcome=outcome,
            keys=np.array([7], "<u8").tobytes(),
        )

    first = pb.RequestLogResponse(
        log_id="x", oldest=3, latest=4, running=1, requests=[entry(3), entry(4, "abort")]
    )
    again = pb.RequestLogResponse(log_id="y", oldest=1, latest=1, requests=[entry(1)])
    script.logs = [first, again, again]
    whole = cli("replay", "capture", "--router", router, "-o", "c.jsonl", "--seconds", "0.2")
    assert whole.exit_code == 0, whole.stderr
    assert "2 earlier requests had left the router's log" in whole.stderr
    assert "the router restarted 1 times" in whole.stderr
    assert "1 requests were aborted, failed or leased" in whole.stderr
    assert read_trace(Path("c.jsonl")).trace.input_tokens.tolist() == [5, 5, 5]
    assert script.log_asked[0] == 0
    script.logs = [pb.RequestLogResponse(log_id="z")]
    nothing_yet = cli("replay", "capture", "--router", router, "-o", "c.jsonl")
    assert nothing_yet.exit_code == 2
    assert "no request has ended" in nothing_yet.stderr


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("--live", "nowhere:port"), "is not HOST:PORT"),
        (("--live", "127.0.0.1:1", "--workers", "2"), "--workers: the cluster says that"),
        (("--live", "127.0.0.1:1", "--block-size", "16"), "--block-size: the cluster says that"),
        (
            ("--live", "127.0.0.1:1", "--routers", "2"),
            "--routers: it is for simulated fleets alone",
        ),
        (("--calibrate",), "--calibrate: it goes with --live"),
        (("--skip-long",), "--skip-long: it goes with --live"),
        (("--live", "127.0.0.1:1", "--calibrate", "--timing", "linear"), "leave out --timing"),
        (("--timing", "calibrated"), "calibration.json cannot be read"),
        (("--timing", "calibrated", "--calibration", "t.jsonl"), "it is no calibration"),
        (("--scale-lengths", "-1"), "lengths are scaled by a number above 0"),
        (("--max-output", "0"), "an output has 1 token or more"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together_are_one_line_and_exit_code_2(cli, args, reason):
    write(chats(2), "t.jsonl")
    result = cli("replay", "t.jsonl", *args)
    assert result.exit_code == 2, result.stderr
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "is_told"),
    [((), True), (("--timing", "linear"), True), (("--calibrate",), False)],
)
def test_a_live_run_that_measures_nothing_says_how_to(cli, monkeypatch, options, is_told):
    write(synthesize("chats", 1), "t.jsonl")
    outcome = lab.LiveOutcome(cast("Report", None), ("a note",))
    monkeypatch.setattr(lab, "replay_beside", lambda *_, **__: outcome)
    monkeypatch.setattr(command, "show_report", lambda _report: None)
    told = cli("replay", "t.jsonl", "--live", "127.0.0.1:1", *options)
    assert told.exit_code == 0, told.stderr
    assert "a note" in told.stderr
    assert ("--calibrate measures that first" in told.stderr) == is_told
