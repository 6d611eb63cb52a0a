"""State files: private, replaced whole, and worth nothing once their process is gone."""

import errno
import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from radixroute.deploy.cluster.up_down import down
from radixroute.deploy.errors import ConfigError, NotRunning
from radixroute.deploy.process_tree import (
    ProcessId,
    await_gone,
    children_named,
    descendants,
    identify,
)
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.state_file import (
    ClusterState,
    read_state,
    remove_state,
    runtime_dir,
    write_state,
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return runtime_dir(str(tmp_path / "run"))


def _mine() -> ProcessId:
    me = identify(os.getpid())
    assert me is not None
    return me


def test_a_state_is_read_back_while_its_process_lives(folder: Path):
    state = ClusterState("a", "127.0.0.1:1", _mine(), "/log", family=(_mine(),), temp_dir="/t")
    write_state(folder, state)
    assert read_state(folder, "a") == state
    assert state.is_live
    assert stat.S_IMODE((folder / "a.json").stat().st_mode) == 0o600
    remove_state(folder, "a")
    assert read_state(folder, "a") is None


def test_a_reused_pid_is_not_taken_for_the_daemon(folder: Path):
    reused = ProcessId(os.getpid(), _mine().started_ticks - 1)
    write_state(folder, ClusterState("a", "127.0.0.1:1", reused))
    stale = read_state(folder, "a")
    assert stale is not None
    assert not stale.is_live


def test_down_ends_what_a_killed_daemon_left(folder: Path, tmp_path: Path):
    dead = ProcessId(os.getpid(), _mine().started_ticks - 1)
    orphan = subprocess.Popen(["sleep", "60"], start_new_session=True)
    orphan_id = identify(orphan.pid)
    assert orphan_id is not None
    (tmp_path / "ray").mkdir()
    write_state(
        folder,
        ClusterState("a", "127.0.0.1:1", dead, family=(orphan_id,), temp_dir=f"{tmp_path}/ray"),
    )
    said: list[str] = []
    settings = ClusterSettings(name="a", runtime_dir=str(folder))
    down(settings, said.append)
    assert orphan.wait(5) == -signal.SIGKILL
    assert "daemon of cluster 'a' had been killed: ended 1 process that it left" in said[-1]
    assert not (tmp_path / "ray").exists()
    assert read_state(folder, "a") is None
    with pytest.raises(NotRunning):  # the second time there is nothing left to do
        down(settings, said.append)


def test_a_reused_pid_in_the_family_is_left_alone(folder: Path):
    dead = ProcessId(os.getpid(), _mine().started_ticks - 1)
    write_state(folder, ClusterState("a", "127.0.0.1:1", dead, family=(dead,)))
    said: list[str] = []
    down(ClusterSettings(name="a", runtime_dir=str(folder)), said.append)
    assert "nothing of it still ran" in said[-1]
    assert _mine().is_alive


@pytest.mark.parametrize("torn", ["", "{", "[]", '{"name": "a"}', "null"])
def test_a_torn_file_counts_as_none(folder: Path, torn: str):
    (folder / "a.json").write_text(torn)
    assert read_state(folder, "a") is None


def test_a_state_that_finds_no_room_says_what_to_do_and_leaves_the_old_one(
    folder: Path, monkeypatch: pytest.MonkeyPatch
):
    old = ClusterState("blue", "127.0.0.1:1", _mine())
    write_state(folder, old)

    def no_room(*_arguments: object, **_more: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(json, "dump", no_room)
    with pytest.raises(ConfigError, match=r"No space left on device; make room there"):
        write_state(folder, ClusterState("blue", "127.0.0.1:2", _mine()))
    assert read_state(folder, "blue") == old
    assert [path.name for path in folder.iterdir()] == ["blue.json"]


def test_a_folder_that_others_may_enter_is_refused(tmp_path: Path):
    (tmp_path / "open").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="0700"):
        runtime_dir(str(tmp_path / "open"))


def test_a_link_is_not_a_folder_of_ours(tmp_path: Path):
    (tmp_path / "real").mkdir(mode=0o700)
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ConfigError):
        runtime_dir(str(tmp_path / "link"))


def test_descendants_are_found_at_any_depth_and_gone_when_they_end():
    script = "import subprocess; subprocess.run(['sleep', '60'])"
    child = subprocess.Popen([sys.executable, "-c", script])
    try:
        found: set[ProcessId] = set()
        while len(found) < 2:
            found = {p for p in descendants(os.getpid()) if p.pid == child.pid} | descendants(
                child.pid
            )
        assert {p.pid for p in children_named(child.pid, {"sleep"})} < {p.pid for p in found}
    finally:
        for process in sorted(found, key=lambda p: p.pid, reverse=True):
            os.kill(process.pid, 9)
        child.wait()
    assert await_gone(found, 5.0) == set()
    assert identify(child.pid) is None
