"""Chaos as `make chaos` does it, in a bounded form; `make test` does two kills of it in
`tests/e2e/test_worker_death.py`, on a cluster that is there."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.chaos.faults import Fault

pytestmark = [pytest.mark.e2e, pytest.mark.torch]


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
