"""`replay --live` and `replay capture` against a router over real engines."""

import asyncio
import json
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from radixroute.replay.analysis.bounds import bounds
from radixroute.replay.calibration.calibration_file import read_calibration
from radixroute.replay.traces.files import read_trace
from radixroute.replay.traces.trace import prefixes
from tests.frontdoor.test_live_replay import chats, write
from tests.router.clusters import until
from tests.router.real_fleet import SLOW_RUNNER, fleet

ROOT = Path(__file__).resolve().parents[2]
pytestmark = pytest.mark.e2e


def infinite(trace, block_size):
    return bounds(trace, prefixes(trace, block_size), 1, 1 << 20)["infinite"].tokens


class Told(NamedTuple):
    """What a command wrote."""

    shown: str
    progress: str


async def command(*arguments: str) -> Told:
    """In a process of its own: two loops of one process would share gRPC's."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "radixroute", *arguments),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    told = Told(*(written.decode() for written in await process.communicate()))
    assert process.returncode == 0, told.progress
    return told


async def test_live_calibrated_and_captured_round_trip(tmp_path, monkeypatch):
    """A trace on real engines, their timing, and the log of it: the same prefixes come back."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # engines import their runner, from another folder
    trace = chats(8)
    write(trace, "t.jsonl")
    async with fleet("a", "b", runner=SLOW_RUNNER) as (service, _, _):
        await until(lambda: all(m.is_fresh for m in service.runtime.core._state.members), 30)
        address = f"127.0.0.1:{service.address.port}"
        replayed = await command(
            *("replay", "t.jsonl", "--live", address),
            *("--policy", "radix,round_robin", "-o", "report", "--calibrate"),
        )
        await command("replay", "capture", "--router", address, "-o", "captured.jsonl.gz")
    found = read_trace(Path("captured.jsonl.gz")).trace
    # Two runs that share no prompt, after prompts for calibration that share none.
    assert len(found) > 2 * len(trace)
    assert infinite(found, 4) == 2 * infinite(trace, 4)
    assert_is_the_report_of(trace)
    assert "radix live, 1x: sent late by" in replayed.progress
    assert "prefill ms =" in replayed.progress
    assert "Idle while requests waited" in replayed.shown


def assert_is_the_report_of(trace):
    fitted = read_calibration(Path("calibration.json").read_bytes())
    assert fitted.prefill.rows >= 4
    assert 0.5 < fitted.timing.decode_ms(2, 100) < 500  # a pass of that engine sleeps for 2 ms
    record = json.loads(Path("report/results.json").read_text())
    assert [(run["policy"], run["source"]) for run in record["runs"]] == [
        ("radix", "live"),
        ("radix", "simulated"),
        ("round_robin", "live"),
        ("round_robin", "simulated"),
    ]
    radix = record["runs"][0]
    assert radix["unanswered"] == 0
    assert radix["lateness_ms"]["max"] >= 0
    assert len(radix["idle_while_waiting_ms"]["avoidable"]) == 2
    lines = Path("report/requests-radix-live-w2-x1.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    assert len(rows) == len(trace)
    assert sum(row["predicted_tokens"] for row in rows) > 0
    assert 0 < sum(row["cached_tokens"] for row in rows) <= infinite(trace, 4)
