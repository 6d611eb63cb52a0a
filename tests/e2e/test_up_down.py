"""`radixroute up`, `submit`, `down` as a user types them, and what must never be left behind."""

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from radixroute.deploy.process_tree import ProcessId, await_gone, descendants
from radixroute.deploy.state.state_file import ClusterState, read_state, runtime_dir
from tests.e2e.tiny_model import write_tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(400)]
START_S = 150.0  # ten times what an idle machine of two cores needs


class Front:
    """The command line in a folder of its own, with its own name, port and state files."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder, self.name = folder, name
        self.runtime = folder / "run"
        (folder / "radixroute.toml").write_text(
            f'[cluster]\nname = "{name}"\nworkers = 2\nnum_cpus = 2\n'
            f'runtime_dir = "{self.runtime}"\n'
            '[worker]\nmodel = "model"\ndevice = "cpu"\ndtype = "float32"\nkv_memory = "16MiB"\n'
            "[router]\nport = 0\nhttp_port = 0\n"
        )

    def run(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            capture_output=True,
            text=True,
            timeout=START_S,
            check=False,
        )

    def command(self, *arguments: str) -> list[str]:
        return [sys.executable, "-m", "radixroute", *arguments]

    @property
    def state(self) -> ClusterState | None:
        state = read_state(runtime_dir(str(self.runtime)), self.name)
        return state if state is not None and state.is_live else None

    def family(self) -> set[ProcessId]:
        state = self.state
        assert state is not None
        assert state.process is not None
        return {state.process} | descendants(state.process.pid)


@pytest.fixture
def front(tmp_path: Path, request: pytest.FixtureRequest):
    write_tiny_model(tmp_path / "model")
    name = re.sub(r"[^a-z0-9-]+", "-", request.node.name.lower())[-30:].strip("-")
    front = Front(tmp_path, name)
    yield front
    if front.state is not None:
        front.run("down")


def test_up_submit_down_leaves_nothing_though_a_daemon_was_killed_before(front: Front):
    """Two lives of one cluster: the first ends by kill -9 of its daemon, the second in order."""
    killed, family = _up_and_killed(front)
    up = front.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    # Two of Ray's helpers outlive a killed Ray by a minute; the next `up` ended them.
    assert await_gone(family, 1.0) == set()
    assert not Path(killed.temp_dir).exists()
    state, family = front.state, front.family()
    assert state is not None
    assert len(family) > 5
    _assert_answers(front, state)
    again = front.run("up")
    assert again.returncode != 0
    assert "radixroute down" in again.stdout + again.stderr
    down = front.run("down")
    assert down.returncode == 0, down.stdout + down.stderr
    assert await_gone(family, 1.0) == set()
    assert front.state is None
    _assert_logs_stay(state, down.stdout + down.stderr)
    nothing = front.run("down")
    assert nothing.returncode != 0


def _assert_logs_stay(state: ClusterState, said: str) -> None:
    """Of every actor, each line with time and level; and what Ray and the engines wrote."""
    run = Path(state.run_dir)
    assert state.run_dir in "".join(said.split())
    for actor in ("router", "worker-0", "worker-1", "controller"):
        assert (run / f"{actor}.log").exists(), actor
    first = (run / "router.log").read_text().splitlines()[0]
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO radixroute\.", first), first
    assert (run / "daemon.log").read_text()
    assert any((run / "ray").iterdir())


def _up_and_killed(front: Front) -> tuple[ClusterState, set[ProcessId]]:
    """The first life: what it was, and its processes."""
    up = front.run("up")
    assert up.returncode == 0, up.stdout + up.stderr
    state, family = front.state, front.family()
    assert state is not None
    assert state.process is not None
    assert state.router_address in up.stdout + up.stderr
    _assert_answers(front, state)
    actors = {process for process in family if _is_serving(process)}
    assert len(actors) == 4  # controller, router, two workers
    state.process.send(signal.SIGKILL)
    assert await_gone(actors, 10.0) == set()
    assert front.state is None  # the file is stale
    return state, family


def _assert_answers(front: Front, state: ClusterState) -> None:
    answer = front.run("submit", "--router", state.router_address, "--max-tokens", "8", "Hello")
    assert answer.returncode == 0, answer.stdout + answer.stderr
    assert "worker-" in answer.stdout + answer.stderr


def _is_serving(process: ProcessId) -> bool:
    """One of our actors: Ray names their processes after their classes."""
    command = Path(f"/proc/{process.pid}/cmdline").read_text()
    return bool(re.match(r"ray::(Controller|RouterActor|WorkerActor)", command))


def test_an_interrupted_up_leaves_nothing(front: Front):
    up = subprocess.Popen(
        front.command("up"),
        cwd=front.folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    give_up_s = time.monotonic() + START_S
    family: set[ProcessId] = set()
    while len(family) < 4 and time.monotonic() < give_up_s:  # Ray's first processes are there
        family = descendants(up.pid)
        time.sleep(0.05)
    os.kill(up.pid, signal.SIGINT)
    said, _ = up.communicate(timeout=START_S)
    assert up.returncode != 0, said
    assert await_gone(family, 20.0) == set()
    assert front.state is None


@pytest.mark.parametrize(
    ("setting", "reason"),
    [
        pytest.param(
            {"RADIXROUTE_CLUSTER_NUM_CPUS": "1"}, "room for 1 of 2 workers", marks=pytest.mark.deep
        ),
        ({"RADIXROUTE_CLUSTER_ADDRESS": "127.0.0.1:1"}, "no Ray cluster answers"),
        ({"RADIXROUTE_WORKER_MODEL": "absent"}, "does not exist"),
    ],
)
def test_a_start_that_cannot_work_ends_with_the_reason(
    front: Front, setting: dict[str, str], reason: str, monkeypatch: pytest.MonkeyPatch
):
    for name, value in setting.items():
        monkeypatch.setenv(name, value)
    up = front.run("up")
    assert up.returncode != 0
    assert reason in " ".join((up.stdout + up.stderr).split())
    monkeypatch.undo()
    assert front.state is None


@pytest.mark.deep
def test_a_torn_model_ends_with_the_workers_reason(front: Front):
    weights = front.folder / "model" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    up = front.run("up")
    assert up.returncode != 0
    assert "worker-" in up.stdout + up.stderr
    assert "did not start" in up.stdout + up.stderr
    assert front.state is None
