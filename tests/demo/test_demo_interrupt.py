"""Ctrl-C and its like end the demo in order, whatever it was doing."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
LIMIT_S = 30


def start(*arguments):
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "tests.demo.interrupted_demo", *arguments],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def read_until(process, wanted):
    lines = []
    for line in process.stdout:
        lines.append(line)
        if wanted in line:
            return lines
    raise AssertionError(f"{wanted!r} never came: {lines}")


@pytest.mark.parametrize(
    ("number", "code"),
    [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)],
    ids=["Ctrl-C", "terminate", "hang-up"],
)
def test_a_signal_during_a_replay_stops_the_cluster_once(number, code):
    with start("replay") as process:
        read_until(process, "in flight")
        process.send_signal(number)
        rest, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == code, rest
    assert rest.count("cluster stopped") == 1
    assert "everything is down" in rest
    # grpc.aio's poller tells asyncio of a wake-up with nothing to read (EAGAIN): no fault of ours.
    assert rest.count("Traceback") == rest.count("Handle PollerCompletionQueue._handle_events")


def test_a_second_ctrl_c_does_not_cut_the_shutdown_short():
    with start("slow-stop") as process:
        read_until(process, "in flight")
        process.send_signal(signal.SIGINT)
        read_until(process, "stopping slowly")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, rest
    assert rest.count("cluster stopped") == 1


def test_a_signal_while_the_cluster_starts_stops_what_has_started():
    with start("slow-start") as process:
        read_until(process, "starting slowly")
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, rest
    assert rest.count("cluster stopped") == 1
