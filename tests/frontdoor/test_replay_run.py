"""`radixroute replay TRACE` and `replay diff`: reports of simulated runs, the same every time."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

FILES = {
    "index.html",
    "results.json",
    "requests.jsonl",
    "requests-radix-w2-x1.jsonl",
    "requests-random-w2-x1.jsonl",
}


@pytest.fixture
def trace(cli):
    assert cli("replay", "synth", "chats", "-o", "t.jsonl", "--requests", 60).exit_code == 0
    return "t.jsonl"


def test_one_command_says_which_policy_to_use(cli, trace):
    run = cli("replay", trace, "--workers", 2, "--policy", "radix,random", "-o", "report")
    assert run.exit_code == 0, run.stderr
    assert "radix answers first" in run.stdout or "random answers first" in run.stdout
    assert "pooled_belady" in run.stdout
    assert {path.name for path in Path("report").iterdir()} == FILES
    found = json.loads(Path("report/results.json").read_text())
    assert [run["policy"] for run in found["runs"]] == ["radix", "random"]
    for one in found["runs"]:
        assert set(one["ttft_ms"]) == {"mean", "p50", "p90", "p99"}
        assert set(one["itl_ms"]) >= {"mean", "p99"}
        assert 0 < one["of_reachable"] <= 1.01
        assert one["loss"]["never_seen"] > 0
    assert found["bounds"]["infinite"] >= found["bounds"]["pooled_belady"]
    assert found["trace_hash"]
    assert found["config_hash"]
    assert found["command"].startswith("radixroute replay t.jsonl --workers 2 ")
    assert len(Path("report/requests.jsonl").read_text().splitlines()) == 60


def test_the_workers_eviction_policy_is_told_in_the_results(cli, trace):
    small = ("--workers", 1, "--policy", "round_robin", "--kv-blocks", 150)
    reuse = {}
    for name in ("lru", "lfu"):
        run = cli("replay", trace, *small, "--eviction", name, "-o", name)
        assert run.exit_code == 0, run.stderr
        (one,) = json.loads(Path(name, "results.json").read_text())["runs"]
        assert one["eviction_policy"] == name
        reuse[name] = one["reuse"]
    assert reuse["lru"] != reuse["lfu"]
    wrong = cli("replay", trace, *small, "--eviction", "mru")
    assert wrong.exit_code != 0
    assert "'mru'; use one of lru, slru, lfu, cost" in " ".join(wrong.stderr.split())


def test_clients_that_tell_the_end_of_their_sessions_are_replayed(cli, trace):
    small = ("--workers", 1, "--policy", "round_robin", "--kv-blocks", 150)
    reuse = {}
    for share in ("0", "1"):
        run = cli("replay", trace, *small, "--session-ends", share, "-o", share)
        assert run.exit_code == 0, run.stderr
        found = json.loads(Path(share, "results.json").read_text())
        assert found["settings"]["share of sessions whose last request says so"] == share
        reuse[share] = found["runs"][0]["reuse"]
    assert reuse["0"] < reuse["1"]
    wrong = cli("replay", trace, *small, "--session-ends", "2")
    assert wrong.exit_code != 0
    assert "a share of sessions that tell their end is 0 to 1, not 2" in wrong.stderr


def test_two_processes_write_the_same_bytes_but_for_wall_times(cli, trace):
    written = []
    for hash_seed in ("1", "2"):
        subprocess.run(
            [sys.executable, "-m", "radixroute", "replay", trace, "--workers", "2", "-o", "out"],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            check=True,
            capture_output=True,
            timeout=120,
        )
        files = {path.name: path.read_text() for path in Path("out").iterdir()}
        files["results.json"] = re.sub(r'"wall_s": [0-9.]+', "", files["results.json"])
        written.append(files)
    assert written[0] == written[1]
    assert len(written[0]) > 10


def test_runs_are_compared_request_by_request(cli, trace):
    cli("replay", trace, "--workers", 2, "--policy", "radix,random", "-o", "r")
    shown = cli("replay", "diff", "r/requests-radix-w2-x1.jsonl", "r/requests-random-w2-x1.jsonl")
    assert shown.exit_code == 0, shown.stderr
    assert "60" in shown.stdout
    same = cli("replay", "diff", "r/requests.jsonl", "r/requests-radix-w2-x1.jsonl")
    assert same.exit_code == 0


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (("none.jsonl",), "none.jsonl: cannot be read"),
        (("t.jsonl", "--policy", "best"), "--policy: unknown policy: use one of"),
        (("t.jsonl", "--workers", "two"), "--workers two: write numbers"),
        (("t.jsonl", "--workers", "0"), "must be at least 1, not 0"),
        (("t.jsonl", "--speed", "0"), "a speed is a number above 0"),
        (("t.jsonl", "--block-size", "48"), "the engine's block size must divide that"),
        (("t.jsonl", "--kv-blocks", "4"), "do not fit a worker of 4 blocks"),
        (("t.jsonl", "--timing", "magic"), "unknown timing"),
        (("t.jsonl", "-o", "t.jsonl"), "cannot be written"),
        (("bad.jsonl",), "bad.jsonl"),
    ],
    ids=str,
)
def test_what_cannot_be_replayed_is_one_line_and_exit_code_2(cli, trace, args, reason):
    Path("bad.jsonl").write_text('{"timestamp": 0}\n')
    result = cli("replay", *args)
    assert result.exit_code == 2
    assert reason in result.stderr
    assert result.stderr.count("\n") == 1


def test_bad_lines_are_counted_when_asked(cli, trace):
    lines = Path(trace).read_text().splitlines(keepends=True)
    Path("torn.jsonl").write_text("".join([*lines[:30], "{torn\n", *lines[30:]]))
    assert cli("replay", "torn.jsonl", "--policy", "random").exit_code == 2
    skipped = cli("replay", "torn.jsonl", "--policy", "random", "--skip-bad")
    assert skipped.exit_code == 0, skipped.stderr
    said = r"repaired: \d+ bad lines were skipped; the first: torn.jsonl, line 31"
    assert re.search(said, skipped.stdout)
