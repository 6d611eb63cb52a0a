"""Logs: every line with its time and level, in a folder that stays, of a bounded number of runs."""

import logging
import re
import stat
from pathlib import Path

import pytest

from radixroute.deploy.actors import actor_logging
from radixroute.deploy.actors.actor_logging import log_to
from radixroute.deploy.state import run_folder
from radixroute.deploy.state.run_folder import keep_ray_logs, new_run


@pytest.fixture
def loggers():
    """This process's loggers as they were."""
    root, ours = logging.getLogger(), logging.getLogger("radixroute")
    handlers, level = list(root.handlers), ours.level
    yield
    for handler in [one for one in root.handlers if one not in handlers]:
        root.removeHandler(handler)
        handler.close()
    ours.setLevel(level)


def test_an_actor_keeps_what_happens_with_time_and_level(tmp_path: Path, loggers, capsys):
    log_to(str(tmp_path), "worker-0")
    logging.getLogger("radixroute.router.runtime").info("worker %s joined", "a")
    logging.getLogger("grpc").info("chatter of a library")
    logging.getLogger("grpc").warning("what is wrong there")
    lines = (tmp_path / "worker-0.log").read_text().splitlines()
    time = r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3}"
    assert re.fullmatch(rf"{time} INFO radixroute\.router\.runtime worker a joined", lines[0])
    assert re.fullmatch(rf"{time} WARNING grpc what is wrong there", lines[1])
    assert len(lines) == 2
    assert capsys.readouterr().err.splitlines() == lines


@pytest.mark.parametrize("run", ["", "/nowhere/at/all"])
def test_where_the_folder_is_not_it_logs_to_stderr_alone(run: str, loggers, capsys):
    log_to(run, "worker-0")
    logging.getLogger("radixroute.x").info("here")
    assert "INFO radixroute.x here" in capsys.readouterr().err


def test_an_actors_log_is_bounded(tmp_path: Path, loggers, monkeypatch):
    monkeypatch.setattr(actor_logging, "MAX_BYTES", 1000)
    log_to(str(tmp_path), "router")
    for number in range(200):
        logging.getLogger("radixroute.x").info("line %d", number)
    sizes = [path.stat().st_size for path in tmp_path.iterdir()]
    assert len(sizes) == 2
    assert max(sizes) <= 1000
    assert "line 199" in (tmp_path / "router.log").read_text()


def test_a_full_disk_costs_an_actors_log_lines_which_are_counted_and_said_once(
    tmp_path: Path, loggers, capsys
):
    path = tmp_path / "worker-0.log"
    path.symlink_to("/dev/full")  # no room, whoever writes
    log_to(str(tmp_path), "worker-0")
    log = logging.getLogger("radixroute.x")
    for number in range(3):
        log.info("line %d", number)
    said = capsys.readouterr().err.splitlines()
    (complaint,) = (line for line in said if "cannot write" in line)
    assert str(path) in complaint
    assert "No space left on device" in complaint
    assert [line[-6:] for line in said if line is not complaint] == ["line 0", "line 1", "line 2"]
    path.unlink()
    log.info("line 3")
    assert "3 lines are missing" in capsys.readouterr().err
    assert path.read_text().endswith("line 3\n")
    assert len(path.read_text().splitlines()) == 1


def test_the_last_runs_of_each_name_are_kept(tmp_path: Path, monkeypatch):
    other = new_run(tmp_path, "other")
    runs = []
    for number in range(run_folder.KEPT_RUNS + 2):
        name = f"2026-{number:02d}"
        monkeypatch.setattr("time.strftime", lambda *_, name=name: name)
        runs.append(new_run(tmp_path, "blue"))
        (runs[-1] / "daemon.log").write_text("x")
    assert [run.exists() for run in runs] == [False] * 2 + [True] * run_folder.KEPT_RUNS
    assert other.exists()
    assert stat.S_IMODE(runs[-1].stat().st_mode) == 0o700


def test_rays_logs_are_kept_the_end_of_each(tmp_path: Path, monkeypatch):
    monkeypatch.setattr(run_folder, "KEPT_BYTES", 10)
    logs = tmp_path / "ray" / "session_1" / "logs"
    (logs / "events").mkdir(parents=True)
    (tmp_path / "ray" / "session_latest").symlink_to(tmp_path / "ray" / "session_1")
    (logs / "raylet.err").write_text("begin" + "0123456789")
    (logs / "events" / "e.log").write_text("short")
    (logs / "empty.out").write_text("")
    run = tmp_path / "run"
    run.mkdir()
    keep_ray_logs(str(tmp_path / "ray"), run)
    kept = {str(p.relative_to(run)): p.read_text() for p in run.rglob("*") if p.is_file()}
    assert kept == {"ray/raylet.err": "0123456789", "ray/events/e.log": "short"}
    keep_ray_logs(str(tmp_path / "gone"), run)  # nothing there is no error
