"""`radixroute up --engine vllm`: a vLLM that a Ray worker starts, owns, replaces and takes with it.

Blocks; one worker, since the two servers of the other stages go on beside it.
"""

import json
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.real_vllm.server import BLOCK_SIZE, CORE, POLL_S, ServerShape, server_environment, title
from radixroute.deploy.actors.own_server import TOKEN
from radixroute.deploy.process_tree import ProcessId, await_gone, descendants
from radixroute.deploy.state.state_file import read_state, runtime_dir

CLUSTER = "owns-vllm"
COMMAND_S = 400.0
AGAIN_S = 180.0
GONE_S = 10.0


@dataclass(frozen=True, slots=True)
class Owned:
    """What was seen."""

    up_s: float  # command to a cluster that serves
    again_s: float  # its core was killed; until the worker serves again
    answers: tuple[str, str]  # to the same greedy prompt, before and after
    n_left: int  # processes of its server after `down`


def owned(shape: ServerShape) -> Owned:
    """Raises `SystemExit` where a command fails."""
    with tempfile.TemporaryDirectory(prefix="rr-owned-") as given:
        folder = Path(given)
        _configure(folder, shape)
        with _down_at_the_end(folder, shape):
            began_s = time.monotonic()
            _run(folder, shape, "up", "--engine", "vllm", "--model", str(shape.model))
            up_s = time.monotonic() - began_s
            before = _answer(folder, shape)
            state = read_state(runtime_dir(str(folder / "run")), CLUSTER)
            if state is None or state.process is None:
                raise SystemExit("`up` left no record of its cluster")
            again_s = _kill_core(folder, shape, state.process.pid)
            after = _answer(folder, shape)
            servers = _servers(state.process.pid)
            _run(folder, shape, "down")
        return Owned(up_s, again_s, (before, after), len(await_gone(servers, GONE_S)))


def _configure(folder: Path, shape: ServerShape) -> None:
    arguments = ["--dtype", shape.dtype, "--max-model-len", str(shape.max_model_len)]
    arguments += ["--num-gpu-blocks-override", str(shape.blocks), "--enforce-eager"]
    settings: dict[str, dict[str, object]] = {
        "cluster": {
            "name": CLUSTER,
            "workers": 1,
            "num_cpus": 2,
            "start_timeout_s": COMMAND_S - 60,
            "runtime_dir": str(folder / "run"),
            "engine_args": arguments,
        },
        "router": {"port": 0, "http_port": "none", "metrics_port": "none"},
        "companion": {"block_size": BLOCK_SIZE, "max_num_seqs": shape.max_num_seqs},
    }
    lines = []
    for table, values in settings.items():
        lines.append(f"[{table}]")
        lines += [f"{name} = {json.dumps(value)}" for name, value in values.items()]
    (folder / "radixroute.toml").write_text("\n".join(lines) + "\n")


def _run(folder: Path, shape: ServerShape, *arguments: str) -> str:
    environment = server_environment()
    environment["PATH"] = f"{shape.environment / 'bin'}:{environment['PATH']}"
    found = subprocess.run(
        [sys.executable, "-m", "radixroute", *arguments],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=COMMAND_S,
        check=False,
    )
    if found.returncode:
        raise SystemExit(f"`radixroute {arguments[0]}` failed: {found.stderr or found.stdout}")
    return found.stdout


@contextmanager
def _down_at_the_end(folder: Path, shape: ServerShape) -> Iterator[None]:
    try:
        yield
    except BaseException:
        _run(folder, shape, "down")
        raise


def _answer(folder: Path, shape: ServerShape) -> str:
    asked = ("Once upon a time", "--raw", "--max-tokens", "24", "--temperature", "0")
    return _run(folder, shape, "submit", *asked)


def _kill_core(folder: Path, shape: ServerShape, controller: int) -> float:
    """Seconds until the worker serves in its next life."""
    cores = [one for one in _servers(controller) if CORE in title(one.pid)]
    if not cores:
        raise SystemExit(f"no process of the worker's server is called {CORE}")
    for one in cores:
        one.send(signal.SIGKILL)
    began_s = time.monotonic()
    while time.monotonic() - began_s < AGAIN_S:
        (worker,) = json.loads(_run(folder, shape, "workers", "--json"))["workers"]
        if worker["deaths"] and worker["state"] == "live":
            return time.monotonic() - began_s
        time.sleep(POLL_S)
    raise SystemExit(f"the worker did not come back: {worker}")


def _servers(controller: int) -> set[ProcessId]:
    """Every process of servers that workers below own."""
    return {one for one in descendants(controller) if TOKEN.encode() in _environ(one.pid)}


def _environ(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""
