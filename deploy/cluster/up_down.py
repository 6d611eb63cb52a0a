"""`up` and `down`: a cluster that outlives the command that started it.

`up` spawns a daemon (`daemon`) that owns a `LocalCluster`, listens to its progress on a
pipe and returns once it serves. `down` signals that very process (number and start time) and waits
until it and everything below it is gone. With `address` both talk to a Ray that runs already: the
controller is detached there and no daemon is needed. This module imports Ray only for that.
"""

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

from radixroute.deploy.errors import AlreadyRunning, DeployError, NotRunning, StartError
from radixroute.deploy.process_tree import await_gone, descendants
from radixroute.deploy.settings import ClusterSettings, settle
from radixroute.deploy.state.records import Progress
from radixroute.deploy.state.run_folder import daemon_log, keep_ray_logs, new_run
from radixroute.deploy.state.state_file import (
    ClusterState,
    read_state,
    remove_state,
    runtime_dir,
)

# The daemon gives its actors their own limit; this is for Ray's processes after them. Measured:
# 1-3 s for `ray.shutdown` on two loaded cores.
RAY_EXIT_S = 20.0
KILL_WAIT_S = 5.0


def up(settings: ClusterSettings, progress: Progress) -> ClusterState:
    """Starts the cluster and returns once it serves; raises a `DeployError` with what to do."""
    if settings.address is not None:
        from radixroute.deploy.cluster.joined import join

        return join(settings, progress)
    folder = runtime_dir(settings.runtime_dir)
    running = read_state(folder, settings.name)
    if running is not None and not running.is_live:
        _clean_up(folder, running, progress)
    elif running is not None:
        raise AlreadyRunning(
            f"cluster {settings.name!r} is up (router {running.router_address}): "
            f"`radixroute down{named(settings.name)}` ends it; "
            "`radixroute up --name OTHER --port 0 --http-port 0` starts another beside it"
        )
    settings = settle(settings)
    run = new_run(folder, settings.name)
    return _await_daemon(_spawn(folder, run), settings, progress, folder, run)


def named(name: str) -> str:
    """What a command needs to mean that cluster."""
    return "" if name == ClusterSettings().name else f" --name {name}"


def down(settings: ClusterSettings, progress: Progress) -> None:
    """Ends the cluster of that name and everything it started, or what a killed daemon left of it.

    Raises `NotRunning` where there is neither.
    """
    if settings.address is not None:
        from radixroute.deploy.cluster.joined import leave

        return leave(settings, progress)
    folder = runtime_dir(settings.runtime_dir)
    state = read_state(folder, settings.name)
    if state is None or state.process is None:
        raise NotRunning(f"no cluster {settings.name!r} is up here")
    if not state.is_live:
        return _clean_up(folder, state, progress)
    family = {state.process} | descendants(state.process.pid)
    progress(f"stopping cluster {settings.name!r} (pid {state.process.pid})")
    state.process.send(signal.SIGTERM)
    survivors = await_gone(family, 4 * settings.stop_timeout_s + RAY_EXIT_S)
    if survivors:
        progress(f"{len(survivors)} processes did not end in time: killing them")
        for process in survivors | descendants(state.process.pid):
            process.send(signal.SIGKILL)
        survivors = await_gone(survivors, KILL_WAIT_S)
    remove_state(folder, settings.name)
    if survivors:
        raise DeployError(f"these processes cannot be ended: {sorted(p.pid for p in survivors)}")
    progress(f"stopped{_kept(state)}")
    return None


def _clean_up(folder: Path, state: ClusterState, progress: Progress) -> None:
    """Ends what is left of a cluster whose daemon was killed, and says what that was."""
    orphans = [process for process in state.family if process.is_alive]
    for process in orphans:
        process.send(signal.SIGKILL)
    survivors = await_gone(orphans, KILL_WAIT_S)
    if state.temp_dir:
        if state.run_dir:
            keep_ray_logs(state.temp_dir, Path(state.run_dir))
        shutil.rmtree(state.temp_dir, ignore_errors=True)
    if survivors:
        raise DeployError(f"these processes cannot be ended: {sorted(p.pid for p in survivors)}")
    remove_state(folder, state.name)
    n = f"{len(orphans)} process{'es' if len(orphans) > 1 else ''}"
    what = f"ended {n} that it left" if orphans else "nothing of it still ran"
    progress(
        f"the daemon of cluster {state.name!r} had been killed: {what}; its files are removed"
        f"{_kept(state)}"
    )


def _kept(state: ClusterState) -> str:
    return f"; logs are kept in {state.run_dir}" if state.run_dir else ""


def _spawn(folder: Path, run: Path) -> "subprocess.Popen[str]":
    """Starts the daemon in a session of its own. It gets its settings later, over its stdin."""
    descriptor = os.open(daemon_log(run), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    try:
        daemon = subprocess.Popen(  # noqa: S603 - our own module, no shell, no foreign input
            [sys.executable, "-m", "radixroute.deploy.cluster.daemon", str(folder), str(run)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=descriptor,
            start_new_session=True,
            cwd="/",
            text=True,
        )
    finally:
        os.close(descriptor)
    return daemon


def _await_daemon(
    daemon: "subprocess.Popen[str]",
    settings: ClusterSettings,
    progress: Progress,
    folder: Path,
    run: Path,
) -> ClusterState:
    """Relays progress until the daemon serves or gives up; an interrupt here ends it too."""
    try:
        for message in _converse(daemon, settings):
            if "progress" in message:
                progress(message["progress"])
            elif "error" in message:
                daemon.wait()
                raise StartError(f"{message['error']} (logs: {run})")
            elif (state := read_state(folder, settings.name)) is not None:
                return state
    except KeyboardInterrupt:
        daemon.terminate()
        daemon.wait()
        raise
    raise StartError(f"the daemon ended with status {daemon.wait()}; its log is {daemon_log(run)}")


def _converse(
    daemon: "subprocess.Popen[str]", settings: ClusterSettings
) -> Iterator[dict[str, str]]:
    """Hands the daemon its settings and yields what it says, one JSON object a line.

    Settings travel by pipe because they hold the cluster's secret: arguments are public.
    """
    if daemon.stdin is None or daemon.stdout is None:
        raise StartError("the daemon has no pipes")
    with daemon.stdin as pipe:
        json.dump(asdict(settings), pipe)
    with daemon.stdout as pipe:
        for line in pipe:
            yield json.loads(line)
