"""Settings that were edited after a start, and what is no such edit."""

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from radixroute.deploy.process_tree import identify
from radixroute.deploy.settings import ClusterSettings, without_secrets
from radixroute.deploy.state.state_file import ClusterState, runtime_dir, write_state
from radixroute.doctor.gather.edited import edited_of
from radixroute.router.settings import RouterSettings

LATER, EARLIER = 60.0, -60.0
FILE = Path("radixroute.toml")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return runtime_dir(str(tmp_path / "run"))


def found(folder: Path, text: str, since_s: float, path: Path = FILE, pid: int = 0) -> list[Any]:
    """`text`: what the file has, written so long after the start."""
    path.write_text(text)
    running = without_secrets(ClusterSettings(router=RouterSettings(policy="radix")))
    state = ClusterState("blue", "127.0.0.1:9", identify(pid or os.getpid()), settings=running)
    write_state(folder, state)
    at = (folder / "blue.json").stat().st_mtime + since_s
    os.utime(path, (at, at))
    return [(one.setting, one.written, one.running) for one in edited_of(state, folder, path)]


def test_a_setting_that_was_edited_since_is_told_with_both_values(folder):
    text = '[router]\npolicy = "llm_d"\nmax_waiting = 4096\ncluster_secret = "another secret"\n'
    assert found(folder, text, LATER) == [("router.policy", "llm_d", "radix")]


def test_what_the_file_had_at_the_start_is_no_edit(folder):
    """Then a flag won."""
    assert found(folder, '[router]\npolicy = "llm_d"\n', EARLIER) == []


def test_a_file_of_another_folder_is_not_the_one_it_was_started_with(folder, tmp_path, monkeypatch):
    """Unless somebody names it."""
    text, other = '[router]\npolicy = "llm_d"\n', subprocess.Popen(["sleep", "60"], cwd="/")
    try:
        assert found(folder, text, LATER, pid=other.pid) == []
        named = found(folder, text, LATER, path=tmp_path / FILE, pid=other.pid)
        assert named == [("router.policy", "llm_d", "radix")]
    finally:
        other.kill()
        other.wait()


def test_what_the_environment_had_wins_over_the_file(folder):
    environ = {**os.environ, "RADIXROUTE_ROUTER_POLICY": "radix"}
    other = subprocess.Popen(["sleep", "60"], env=environ)
    try:
        text = '[router]\npolicy = "llm_d"\nmax_waiting = 7\n'
        seen = found(folder, text, LATER, pid=other.pid)
        assert [setting for setting, _, _ in seen] == ["router.max_waiting"]
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("text", ["", "[router]\n", '[client]\nrouter = "h:1"\n'])
def test_what_is_as_it_runs_or_runs_nowhere_is_no_edit(folder, text):
    assert found(folder, text, LATER) == []


def test_a_file_that_is_torn_says_nothing(folder):
    assert found(folder, "[router\n", LATER) == []
