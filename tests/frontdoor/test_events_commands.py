"""`radixroute events`: real streams on loopback into a file, and what the file says afterwards."""

import json
import os
import re
import signal
import stat
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import radixroute
from radixroute.events.publish.compat_publisher import CompatPublisher
from radixroute.events.recording.recording import Channel
from radixroute.events.wire.native import encode_batch
from radixroute.live import event_recording
from radixroute.live.event_sources import Lookout, SourceFinder, engine_endpoints
from radixroute.protos import radixroute_pb2 as pb
from tests.events.fakes import removed, stored
from tests.events.recordings import recorder_of, source
from tests.events.session_bench import OTHER, batch
from tests.frontdoor.console_rows import rows_of
from tests.frontdoor.fake_worker import fake_worker

PATIENCE_S = 60.0
TENTH = 100_000_000  # of a second: closer than any silence is noticed
ROOT = Path(radixroute.__file__).parents[1]
KEY = 0x1F2E3D4C5B6A7988


@pytest.fixture
def worker():
    with fake_worker() as worker:
        yield worker


@pytest.fixture
def recording(tmp_path):
    """r1 at 0.1 s stores 3 blocks, r2 removes one, r3 comes after a gap; r4 at 0.4 s ends it."""
    recorder, file = recorder_of(source("worker-0"))
    for number, one in enumerate(
        (
            batch(0, stored(None, KEY, KEY + 1, KEY + 2)),
            batch(1, removed(KEY + 2)),
            batch(3, stored(KEY, 9)),
        )
    ):
        recorder.message((number + 1) * TENTH, 0, Channel.EVENTS, encode_batch(one))
    recorder.finish(4 * TENTH)
    path = tmp_path / "run.rrev"
    path.write_bytes(file.getvalue())
    return path


@pytest.fixture
def recording_process(worker, tmp_path):
    """`events record a.rrev`, running, with something of the stream on disk."""
    worker.publisher.publish((stored(None, 1),))
    command = [sys.executable, "-m", "radixroute", "events", "record", "a.rrev"]
    process = subprocess.Popen(
        [*command, "--worker", worker.address],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    file = tmp_path / "a.rrev"
    try:
        wait_for(lambda: file.exists() and file.stat().st_size > 500)
        yield process
    finally:
        process.kill()
        process.communicate()


def wait_for(is_reached):
    deadline = time.monotonic() + PATIENCE_S
    while not is_reached():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def replayed(cli, path, *args):
    result = cli("events", "replay", path, "--json", *args)
    assert result.exit_code == 0, result.stderr
    return json.loads(result.stdout)


@pytest.mark.parametrize("command", ["record", "show", "replay"])
def test_every_command_shows_an_example(cli, command):
    result = cli("events", command, "--help")
    assert result.exit_code == 0
    assert re.search(rf"Example: radixroute events {command} run\.rrev", result.stdout)


# -- record ----------------------------------------------------------------------------------------


def test_a_worker_is_recorded_from_its_snapshot_on(cli, worker, tmp_path):
    worker.publisher.publish((stored(None, *range(1, 101)),))
    result = cli("events", "record", "a.rrev", "--worker", worker.address, "--seconds", "0.1")
    assert result.exit_code == 0, result.stderr
    assert "1 stream in" in result.stdout
    assert stat.S_IMODE((tmp_path / "a.rrev").stat().st_mode) == 0o600
    (stream,) = replayed(cli, "a.rrev")["at"]["streams"]
    assert (stream["stream"], stream["state"], stream["blocks"]) == ("worker-0", "live", 100)
    assert (stream["digest"], stream["gaps"]) == ("agrees", 0)


def test_all_workers_of_a_router_are_recorded(cli, router, script, worker):
    with fake_worker(worker_id="worker-1") as other:
        other.publisher.publish((stored(None, 5),))
        listed = [
            pb.WorkerStatus(worker_id="worker-0", address=worker.address, epoch="a"),
            pb.WorkerStatus(worker_id="worker-1", address=other.address, epoch="b"),
            pb.WorkerStatus(worker_id="worker-2", address="127.0.0.1:1", epoch="c", state="dead"),
        ]
        script.workers = pb.ListWorkersResponse(workers=listed)
        result = cli("events", "record", "a.rrev", "--router", router, "--seconds", "0")
    assert result.exit_code == 0, result.stderr
    streams = replayed(cli, "a.rrev")["at"]["streams"]
    assert [(one["stream"], one["blocks"]) for one in streams] == [("worker-0", 0), ("worker-1", 1)]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_a_recording_whole(recording_process, cli, number):
    process = recording_process
    process.send_signal(number)
    out, _ = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0
    assert b"recorded" in out
    result = cli("events", "show", "a.rrev")
    assert result.stdout.rstrip().endswith("end")
    assert "without an end mark" not in result.stderr


def test_a_killed_recorder_leaves_what_can_be_read(recording_process, cli):
    recording_process.kill()
    recording_process.communicate(timeout=PATIENCE_S)
    result = cli("events", "replay", "a.rrev")
    assert result.exit_code == 0
    assert "without an end mark" in result.stderr
    assert "the recorder was killed" in result.stderr


@pytest.mark.parametrize("replays", [True, False])
def test_an_engine_is_recorded_from_what_it_still_keeps(cli, replays):
    publisher = CompatPublisher(2)
    publisher.start()
    try:
        for number in range(3):
            tokens = np.arange(4, dtype=np.uint32) + 10 * number
            publisher.publish((replace(stored(None, 2 * number, 2 * number + 1), tokens=tokens),))
        ends = publisher.endpoints
        replay = ends.control if replays else "none"
        options = ("--vllm", ends.events, "--vllm-replay", replay, "--seconds", "0")
        result = cli("events", "record", "a.rrev", *options)
    finally:
        publisher.stop()
    assert result.exit_code == 0, result.stderr
    assert ("none missing" in result.stdout) is replays
    (stream,) = replayed(cli, "a.rrev")["at"]["streams"]
    expected = (6, 0, 2) if replays else (0, None, None)
    assert (stream["blocks"], stream["known_from"], stream["applied_seq"]) == expected
    shown = cli("events", "show", "a.rrev").stdout
    assert ("all that is kept from seq 0 on" in shown) is replays


def test_an_engine_replays_at_the_next_port_unless_it_is_said():
    first, second = engine_endpoints(["tcp://a:5557", "b:5557"])
    assert (first.events, first.control) == ("tcp://a:5557", "tcp://a:5558")
    assert second.control == "tcp://b:5558"
    ranks = engine_endpoints(["a:5557", "a:5558", "a:65535"])  # the next one's, and none at all
    assert [one.control for one in ranks] == ["", "tcp://a:5559", ""]
    (said,) = engine_endpoints(["a:5557"], ["tcp://b:7"])
    assert said.control == "tcp://b:7"


def test_a_file_is_only_replaced_by_force(cli, worker, tmp_path):
    (tmp_path / "a.rrev").write_text("precious")
    options = ("--worker", worker.address, "--seconds", "0")
    result = cli("events", "record", "a.rrev", *options)
    assert (result.exit_code, "--force to replace it" in result.stderr) == (2, True)
    assert (tmp_path / "a.rrev").read_text() == "precious"
    assert cli("events", "record", "a.rrev", "--force", *options).exit_code == 0
    assert stat.S_IMODE((tmp_path / "a.rrev").stat().st_mode) == 0o600
    assert replayed(cli, "a.rrev")["at"]["streams"]


def test_nothing_is_replaced_when_there_is_nothing_to_record(cli, tmp_path):
    (tmp_path / "a.rrev").write_text("precious")
    result = cli("events", "record", "a.rrev", "--force", "--worker", "127.0.0.1:1")
    assert (result.exit_code, "no worker answers at 127.0.0.1:1" in result.stderr) == (1, True)
    assert (tmp_path / "a.rrev").read_text() == "precious"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["record", "a", "--worker", "nowhere"], "the worker's address 'nowhere' is not HOST:PORT"),
        (["record", "a", "--vllm", "tcp://x"], "the engine's address 'x' is not HOST:PORT"),
        (["record", "a", "--vllm", "a:1", "--vllm-replay", "x"], "address 'x' is not HOST:PORT"),
        (["record", "a", "--vllm-replay", "a:1"], "0 --vllm and 1 --vllm-replay"),
        (["record", "a", "--worker", "a:1", "--router", "b:1"], "not both"),
        (["show", "nowhere"], "cannot read nowhere"),
        (["show", "text"], "no recording of radixroute"),
        (["show", "text", "--from", "soon"], "'soon' is no point"),
        (["replay", "run.rrev", "--at", "9"], "the recording ends at 0.400 s with record r4"),
        (["replay", "run.rrev", "--keys"], "--keys goes with --diff"),
    ],
)
def test_what_the_user_must_change_is_one_line_and_exit_2(cli, recording, tmp_path, args, says):
    (tmp_path / "text").write_text("a text, of some length")
    result = cli("events", *args)
    assert (result.exit_code, says in result.stderr) == (2, True), result.stderr
    assert result.stderr.count("\n") == 1


def test_a_router_without_workers_is_said(cli, router, script):
    script.workers = pb.ListWorkersResponse()
    result = cli("events", "record", "a.rrev", "--router", router)
    assert (result.exit_code, "no workers have joined yet" in result.stderr) == (1, True)


def test_two_workers_of_one_name_cannot_share_a_recording(cli, worker):
    with fake_worker() as other:
        both = ("--worker", worker.address, "--worker", other.address)
        result = cli("events", "record", "a.rrev", *both)
    assert (result.exit_code, "call themselves 'worker-0'" in result.stderr) == (2, True)


def test_a_worker_of_another_api_is_refused(cli):
    with fake_worker(api_version=99) as worker:
        result = cli("events", "record", "a.rrev", "--worker", worker.address)
    assert (result.exit_code, "speaks API version 99" in result.stderr) == (1, True)


def test_a_folder_that_takes_no_file_is_said(cli, worker):
    result = cli("events", "record", "no/such/a.rrev", "--worker", worker.address)
    assert (result.exit_code, "cannot write no/such/a.rrev" in result.stderr) == (1, True)


def test_a_worker_that_restarts_is_found_again(worker, monkeypatch):
    monkeypatch.setattr("radixroute.live.event_sources.LOOK_INTERVAL_S", 0.01)
    finder = SourceFinder(workers=[worker.address])
    before = finder.find()
    lookout = Lookout(finder)
    lookout.start()
    try:
        worker.publisher.stop()
        worker.begin_life()
        newest = [before]

        def is_found():
            newest.append(lookout.take() or newest[-1])
            return newest[-1].sources != before.sources

        wait_for(is_found)
        assert newest[-1].sources[0].epoch == worker.epoch
    finally:
        lookout.stop()
        finder.close()


def test_who_does_not_answer_any_more_is_as_before(worker):
    with fake_worker(worker_id="worker-1") as other:
        finder = SourceFinder(workers=[worker.address, other.address])
        before = finder.find()
        worker.publisher.stop()
        worker.begin_life()
    after = finder.look()
    finder.close()
    assert after.sources[0].epoch == worker.epoch != before.sources[0].epoch
    assert after.sources[1] == before.sources[1]


def test_the_seconds_do_not_wait_for_a_dead_worker_for_ever(cli, worker, monkeypatch):
    monkeypatch.setattr(event_recording, "BASE_TIMEOUT_NS", 0)
    worker.publisher.stop()
    result = cli("events", "record", "a.rrev", "--worker", worker.address, "--seconds", "0")
    assert result.exit_code == 0
    assert "worker-0 syncing - 0 not compared" in rows_of(result.stdout)


# -- show and replay -------------------------------------------------------------------------------


def test_show_is_a_line_for_each_record_with_gaps_marked(cli, recording):
    rows = rows_of(cli("events", "show", recording).stdout)
    assert rows[0] == "begun 1970-01-01 00:00:00 UTC by a test"
    assert rows[1].startswith("r0 0.000s worker-0 joined epoch 0000000000000001")
    assert rows[2:] == [
        "r1 0.100s worker-0 batch seq 0 stored 3 blocks, device, begins a prompt, "
        "1f2e3d4c 1f2e3d4c 1f2e3d4c",
        "r2 0.200s worker-0 batch seq 1 removed 1 block, device, 1f2e3d4c",
        "r3 0.300s worker-0 gap seq 2 seq 2 did not arrive",
        "r3 0.300s worker-0 batch seq 3 stored 1 block, device, after 1f2e3d4c, 00000000",
        "r4 0.400s end",
    ]


def test_show_takes_a_part(cli, recording):
    bounds = ("--source", "worker-0", "--from", "0.15", "--to", "r2")
    rows = rows_of(cli("events", "show", recording, *bounds).stdout)
    assert [row.split()[0] for row in rows[1:]] == ["r2"]


def test_show_prints_json_lines_with_every_key(cli, recording):
    lines = cli("events", "show", recording, "--json", "--from", "r1").stdout.splitlines()
    first = json.loads(lines[0])
    assert (first["record"], first["at_s"], first["seq"]) == (1, 0.1, 0)
    assert first["events"][0] == {
        "kind": "stored",
        "blocks": 3,
        "tier": "device",
        "keys": ["1f2e3d4c5b6a7988", "1f2e3d4c5b6a7989", "1f2e3d4c5b6a798a"],
        "parent": None,
    }
    assert [json.loads(line)["kind"] for line in lines[2:]] == ["gap", "batch", "end"]


def test_replay_shows_the_index_at_a_point(cli, recording):
    rows = rows_of(cli("events", "replay", recording, "--at", "0.15").stdout)
    assert rows[0] == "the index at 0.150 s, after record r1"
    assert "worker-0 live 0 3 3 0 0 0 not compared" in rows
    rows = rows_of(cli("events", "replay", recording, "--at", "r3").stdout)
    assert "worker-0 gap 1 2 2 0 0 1 not compared" in rows


def test_replay_compares_two_points(cli, recording):
    result = cli("events", "replay", recording, "--at", "0", "--diff", "r2", "--keys")
    rows = rows_of(result.stdout)
    assert "worker-0 2 device 0" in rows
    assert rows[-2:] == [
        "+ worker-0 device 1f2e3d4c5b6a7988",
        "+ worker-0 device 1f2e3d4c5b6a7989",
    ]
    found = replayed(cli, recording, "--at", "r1", "--diff", "r2", "--keys")
    assert (found["at"]["record"], found["to"]["record"]) == (1, 2)
    assert found["diff"] == [
        {
            "stream": "worker-0",
            "added": {},
            "removed": {"device": 1},
            "keys": {"added": {}, "removed": {"device": ["1f2e3d4c5b6a798a"]}},
        }
    ]


def test_a_damaged_recording_is_read_up_to_the_damage(cli, recording):
    data = bytearray(recording.read_bytes())
    data[-1] ^= 1
    recording.write_bytes(bytes(data))
    result = cli("events", "show", recording)
    assert result.exit_code == 1
    assert "r3" in result.stdout
    assert re.search(r"record 4 at byte \d+ is damaged .*3 records before it", result.stderr)
    assert cli("events", "replay", recording, "--at", "r3").exit_code == 0
    assert cli("events", "replay", recording).exit_code == 1


def test_a_cut_off_recording_is_read_and_said_to_be(cli, recording):
    recording.write_bytes(recording.read_bytes()[:-3])
    for command in ("show", "replay"):
        result = cli("events", command, recording)
        assert result.exit_code == 0
        assert "after r3 (0.300 s): its last record is cut off" in result.stderr


def test_what_a_recording_names_cannot_command_a_terminal(cli, tmp_path):
    recorder, file = recorder_of(source("w\x1b]0;x\x07[red]", epoch=OTHER))
    recorder.finish(0)
    (tmp_path / "a.rrev").write_bytes(file.getvalue())
    for command in ("show", "replay"):
        shown = cli("events", command, "a.rrev").stdout
        assert "\x1b" not in shown
        assert "[red]" in shown


def test_a_recording_in_which_nothing_was_heard_says_so(cli):
    arguments = ("record", "a.rrev", "--vllm", "127.0.0.1:1", "--vllm-replay", "none")
    run = cli("events", *arguments, "--seconds", 0.2)
    assert run.exit_code == 0, run.stderr
    assert "nothing was heard" in run.stdout + run.stderr
