"""Chaos in a bounded form: processes killed under streams of the client library."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos.faults import Fault
from bench.chaos.load import LoadSettings
from bench.chaos.run import ChaosSettings, run
from tests.e2e.tiny_model import write_tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.torch]


@pytest.mark.timeout(400)
def test_streams_are_whole_after_an_engine_and_a_router_were_killed(tmp_path):
    kinds = (Fault.ENGINE, Fault.ROUTER)
    outcome = run(
        write_tiny_model(tmp_path / "tiny"),
        ChaosSettings(requests=20, kills=2, kinds=kinds, load=LoadSettings(prompts=5)),
        print,
    )
    assert set(outcome.faults) == set(kinds)
    assert outcome.requests >= 20
    assert outcome.resumes["by_clients"] > 0
    assert outcome.tally.is_sound, outcome.record


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_faults_of_all_kinds_as_make_chaos_does_them(tmp_path: Path):
    results = tmp_path / "chaos.json"
    kinds = set(Fault)
    command = [sys.executable, "-m", "bench.chaos", "--requests", "100", "--results", str(results)]
    ended = subprocess.run(
        [*command, "--kills", "10"],
        capture_output=True,
        text=True,
        timeout=1700,
        check=False,
    )
    print(ended.stdout)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    record = json.loads(results.read_text())
    kinds -= {
        one for one in (Fault.DISK_FULL, Fault.WORKER_CUT) if f"SKIPPED {one}" in ended.stdout
    }
    assert (record["log_complaints"] > 0) == (Fault.DISK_FULL in kinds)
    assert sum(record["kills"].values()) == 10
    assert {*record["kills"], *record["stops"]} == {kind.value for kind in kinds}
    assert min(record["resumes"]["by_router"], record["resumes"]["by_clients"]) > 0
