"""What stands before the engines: `radixroute serve`, or another router's command.

Each front is a process with an OpenAI API; `start` waits until it serves all engines.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from bench.real_vllm.server import NAME, POLL_S, free_ports, post
from radixroute.deploy.process_tree import ProcessId, descendants

START_S = 120.0
STOP_S = 20.0


class Front(Protocol):
    """One router in front of engines."""

    @property
    def name(self) -> str: ...

    def start(self, engines: list[str]) -> str:
        """The base URL of its OpenAI API, once it serves them all."""
        ...

    def stop(self) -> None: ...


@dataclass(eq=False)
class Ours:
    """`radixroute serve` with one policy."""

    policy: str
    model: Path
    log_dir: Path
    more: tuple[str, ...] = ()
    _process: "subprocess.Popen[bytes] | None" = None
    ports: list[int] = field(default_factory=lambda: free_ports(2))

    @property
    def name(self) -> str:
        return f"radixroute {self.policy}"

    @property
    def grpc_address(self) -> str:
        return f"127.0.0.1:{self.ports[0]}"

    def start(self, engines: list[str]) -> str:
        command = [sys.executable, "-m", "radixroute", "serve", "--policy", self.policy]
        command += ["--port", str(self.ports[0]), "--http-port", str(self.ports[1])]
        command += ["--tokenizer", str(self.model), "--set", "router.metrics_port=none"]
        for engine in engines:
            command += ["--engine", engine]
        runtime = tempfile.mkdtemp(prefix="rr-serve-")
        environment = {**os.environ, "RADIXROUTE_CLUSTER_RUNTIME_DIR": runtime}
        log = self.log_dir / "ours.log"
        self._process = launch([*command, *self.more], log, environment)
        base = f"http://127.0.0.1:{self.ports[1]}"
        whole = f"serving with {'all ' if len(engines) > 1 else ''}{len(engines)} engine"
        wait_until(lambda: whole in log.read_text(), self._process, log)
        return f"{base}/v1"

    def companions(self) -> list[ProcessId]:
        """Processes of companions, eldest first."""
        assert self._process is not None
        return sorted(descendants(self._process.pid), key=lambda one: one.started_ticks)

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None


@dataclass(eq=False)
class Theirs:
    """A router of the peers' environment, as its README starts it."""

    program: str  # vllm-router or sglang-router
    policy: str
    environment: Path
    log_dir: Path
    _process: "subprocess.Popen[bytes] | None" = None

    @property
    def name(self) -> str:
        return f"{self.program} {self.policy}"

    def start(self, engines: list[str]) -> str:
        port, metrics = free_ports(2)
        program = str(self.environment / "bin" / self.program)
        launched = ["launch"] if self.program == "sglang-router" else []
        command = [program, *launched, "--host", "127.0.0.1", "--port", str(port)]
        command += ["--policy", self.policy, "--prometheus-port", str(metrics)]
        command += ["--worker-urls", *engines]
        log = self.log_dir / f"{self.program}.log"
        self._process = launch(command, log, dict(os.environ))
        base = f"http://127.0.0.1:{port}"
        wait_until(lambda: _answers(base), self._process, log)
        return f"{base}/v1"

    def stop(self) -> None:
        if self._process is not None:
            end(self._process)
            self._process = None


def _answers(base: str) -> bool:
    with suppress(OSError):
        post(f"{base}/v1/completions", {"model": NAME, "prompt": "Hello", "max_tokens": 1})
        return True
    return False


def launch(command: list[str], log: Path, environment: dict[str, str]) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(
            command, stdout=file, stderr=file, env=environment, start_new_session=True
        )


def wait_until(
    condition: Callable[[], bool], process: "subprocess.Popen[bytes]", log: Path
) -> None:
    """Raises `SystemExit` when the process ends before, or time is over."""
    until_s = time.monotonic() + START_S
    while time.monotonic() < until_s and process.poll() is None:
        if condition():
            return
        time.sleep(POLL_S / 4)
    end(process)
    raise SystemExit(f"no router came up: see {log}")


def end(process: "subprocess.Popen[bytes]") -> None:
    below = descendants(process.pid)
    process.terminate()
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for one in below:
        one.send(signal.SIGKILL)
