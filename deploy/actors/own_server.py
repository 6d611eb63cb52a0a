"""Own server: an engine's server process that belongs to one worker, from its start to its end.

Owns the process, everything below it, and the record of it that a next life finds. What it started
goes with it on every end: in order, by force, or as an orphan that the next life of the same worker
ends first. Every process of it carries a token in its environment, so that orphans of orphans are
found and nothing else is.

`python -m radixroute.deploy.actors.own_server PARENT COMMAND ...` is how it is launched: the server
hears SIGTERM when its worker's process dies.
"""

import asyncio
import ctypes
import json
import os
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from radixroute.deploy.process_tree import ProcessId, await_gone, with_variable

TOKEN = "RADIXROUTE_OWN_SERVER"  # noqa: S105 - a variable's name; what it holds opens nothing
TERM_PATIENCE_S = 5.0  # a server that was told to end gives its GPUs back itself
KILL_PATIENCE_S = 5.0
_PR_SET_PDEATHSIG = 1
_MODULE = "radixroute.deploy.actors.own_server"
# Socket paths may have 107 bytes: a short place, in a fresh folder of mode 0700.
_PARENT, _PREFIX = "/tmp", "rr-own-"  # noqa: S108


class OwnServer:
    """`prepare`, `start`, then `wait_ended` and `stop`."""

    def __init__(self, record: Path, log_path: Path | None) -> None:
        """`record`: a file of this worker's own, over all its lives. No log: to stderr."""
        self._record = record
        self._log_path = log_path
        self._token = secrets.token_hex(16)
        self._process: subprocess.Popen[bytes] | None = None
        self.folder = Path()  # for its sockets; nobody else can enter

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def prepare(self) -> int:
        """Ends what a former life left, and makes the folder; how many processes that were.
        Blocks."""
        n_ended = _end_recorded(self._record)
        self.folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=_PARENT))
        # Before the process begins: whatever happens then, the next life knows the token.
        self._record.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._record.write_text(json.dumps({"token": self._token, "folder": str(self.folder)}))
        return n_ended

    def start(self, command: Sequence[str]) -> None:
        """Raises `OSError`. The thread that calls this must live as long as the process."""
        environment = {**os.environ, TOKEN: self._token}
        # Python servers that name themselves write over their environment unless told not to.
        environment["SPT_NOENV"] = "1"
        launch = [sys.executable, "-m", _MODULE, str(os.getpid()), *command]
        log = None if self._log_path is None else self._log_path.open("ab")
        try:
            self._process = subprocess.Popen(  # noqa: S603 - no shell, the operator's own command
                launch,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=environment,
                start_new_session=True,
            )
        finally:
            if log is not None:
                log.close()

    async def wait_ended(self) -> str:
        """How the process ended, once it has."""
        process = self._process
        if process is None:
            return "was not started"
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        descriptor = os.pidfd_open(process.pid)
        loop.add_reader(descriptor, ended.set)
        try:
            await ended.wait()
        finally:
            loop.remove_reader(descriptor)
            os.close(descriptor)
        status = process.wait()
        how = f"was killed (signal {-status})" if status < 0 else f"ended with status {status}"
        return how if self._log_path is None else f"{how}; its log is {self._log_path}"

    def stop(self) -> None:
        """Ends it and everything below it. Blocks. Idempotent."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(TERM_PATIENCE_S)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        _end_recorded(self._record)


def _end_recorded(record: Path) -> int:
    """Ends every process of the server that is on record; how many there were."""
    try:
        found = json.loads(record.read_text())
        token, folder = str(found["token"]), str(found["folder"])
    except (OSError, ValueError, KeyError, TypeError):
        return 0  # none, or torn: nothing began before it was whole
    ended: set[ProcessId] = set()
    while alive := with_variable(TOKEN, token) - ended:  # what forks meanwhile is in the next round
        for process in alive:
            process.send(signal.SIGKILL)
        await_gone(alive, KILL_PATIENCE_S)
        ended |= alive
    shutil.rmtree(folder, ignore_errors=True)
    record.unlink(missing_ok=True)
    return len(ended)


def main(arguments: list[str]) -> None:
    """Becomes the command, which hears when its parent dies."""
    parent, *command = arguments
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    if os.getppid() != int(parent):  # it may have died before we asked
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell on purpose


if __name__ == "__main__":
    main(sys.argv[1:])
