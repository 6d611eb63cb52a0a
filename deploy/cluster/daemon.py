"""Daemon: the process behind `up`; owns one `LocalCluster` until it is told to end.

`python -m radixroute.deploy.cluster.daemon FOLDER RUN`: settings come as JSON on stdin, progress
goes out on stdout as one JSON object a line until the cluster serves; then stdout is closed and the
log (stderr, in the folder RUN) is all that remains. SIGTERM and SIGINT end it in order. Whatever
Ray leaves behind becomes this process's child (subreaper) and is ended with it. Started by
`up_down` alone.
"""

import ctypes
import fcntl
import json
import logging
import os
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING

from radixroute.deploy.errors import AlreadyRunning, DeployError, StartError
from radixroute.deploy.open_files import allow_files, files_needed
from radixroute.deploy.process_tree import await_gone, descendants, identify
from radixroute.deploy.settings import ClusterSettings, from_record, without_secrets
from radixroute.deploy.state.run_folder import daemon_log
from radixroute.deploy.state.state_file import ClusterState, remove_state, write_state

if TYPE_CHECKING:
    from radixroute.deploy.cluster.local import LocalCluster

log = logging.getLogger(__name__)

PR_SET_CHILD_SUBREAPER = 36  # linux/prctl.h
# Processes that Ray ended in order are gone within this; the others are killed.
ORPHAN_PATIENCE_S = 5.0
CHECK_S = 0.5


class Ended(BaseException):
    """A signal asked this process to end while it was starting."""


def main() -> int:
    folder, run, settings = Path(sys.argv[1]), Path(sys.argv[2]), from_record(json.load(sys.stdin))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    allow_files(files_needed(settings.router.http_max_connections))
    ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    signal.signal(signal.SIGTERM, _interrupt)
    signal.signal(signal.SIGINT, _interrupt)
    with (folder / f"{settings.name}.lock").open("w") as lock:
        try:
            _claim(lock.fileno(), settings)
            _serve(folder, run, settings)
        except DeployError as error:
            log.error("%s", error)
            _say("error", str(error))
            return 1
        except Ended:
            return 0
        finally:
            _end_orphans()
    return 0


def _claim(lock: int, settings: ClusterSettings) -> None:
    """Held for life: two `up` at the same moment cannot both win."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise AlreadyRunning(f"cluster {settings.name!r} is up or just coming up") from error


def _serve(folder: Path, run: Path, settings: ClusterSettings) -> None:
    from radixroute.deploy.cluster.local import LocalCluster

    cluster = LocalCluster(settings, run)
    try:
        cluster.start(lambda line: _say("progress", line))
        ending = _await_signals()
        write_state(folder, _state(run, settings, cluster))
        _say("router_address", cluster.router_address)
        _close_stdout()
        while not ending.wait(CHECK_S):
            if not cluster.is_alive:
                raise StartError("the cluster's Ray is gone")
    finally:
        remove_state(folder, settings.name)
        cluster.stop()


def _state(run: Path, settings: ClusterSettings, cluster: "LocalCluster") -> ClusterState:
    return ClusterState(
        settings.name,
        cluster.router_address,
        identify(os.getpid()),
        log_path=str(daemon_log(run)),
        family=tuple(sorted(descendants(os.getpid()), key=lambda process: process.pid)),
        temp_dir=cluster.temp_dir,
        run_dir=str(run),
        settings=without_secrets(settings),
    )


def _await_signals() -> threading.Event:
    """From here on signals end the daemon in order instead of breaking into a start.

    Set only once Ray is up: it installs a handler of its own while it starts.
    """
    ending = threading.Event()

    def end(_number: int, _frame: FrameType | None) -> None:
        ending.set()

    signal.signal(signal.SIGTERM, end)
    signal.signal(signal.SIGINT, end)
    return ending


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise Ended


def _say(kind: str, text: str) -> None:
    log.info("%s: %s", kind, text)
    with suppress(BrokenPipeError, ValueError):  # whoever called `up` may have gone
        print(json.dumps({kind: text}), flush=True)


def _close_stdout() -> None:
    """`up` sees the end of the pipe; later writes go nowhere."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def _end_orphans() -> None:
    orphans = await_gone(descendants(os.getpid()), ORPHAN_PATIENCE_S)
    for process in orphans:
        log.warning("killing process %d, which Ray left behind", process.pid)
        process.send(signal.SIGKILL)
    await_gone(orphans, ORPHAN_PATIENCE_S)


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    # Everything has ended by now. Ray's exit handlers would ask a Ray that may be gone.
    os._exit(status)
