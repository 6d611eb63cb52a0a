"""One vLLM server on CPU and all its processes. Blocks while it starts: use a thread.

Owns the processes: what is left of them, orphaned cores too, ends with `stop`.
"""

import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from radixroute.deploy.process_tree import ProcessId, descendants, identify
from radixroute.worker.companions.dialects.common.prometheus import samples, total

START_S = 300.0
POLL_S = 0.2
HTTP_S = 60.0  # of an answer
NAME = "smol"
BLOCK_SIZE = 32  # vLLM's attention on CPU takes multiples of this
CORE = "EngineCore"  # in the title of the process that computes


@dataclass(frozen=True, slots=True)
class ServerShape:
    """How a server is started. `blocks`: of its KV cache."""

    environment: Path  # of vLLM
    model: Path
    log_dir: Path
    dtype: str = "float32"
    blocks: int = 600
    max_model_len: int = 4096
    max_num_seqs: int = 16
    lacks: tuple[str, ...] = ()  # options of ours left out, by name
    more: tuple[str, ...] = ()


def get(url: str) -> bytes:
    """Raises `OSError` unless the answer is good."""
    with urllib.request.urlopen(url, timeout=HTTP_S) as answer:
        body: bytes = answer.read()
    return body


def post(url: str, body: Mapping[str, object]) -> bytes:
    """Raises `OSError` unless the answer is good."""
    headers = {"Content-Type": "application/json"}
    asked = urllib.request.Request(url, json.dumps(body).encode(), headers)
    with urllib.request.urlopen(asked, timeout=HTTP_S) as answer:
        found: bytes = answer.read()
    return found


def free_ports(n: int) -> list[int]:
    sockets = [socket.socket() for _ in range(n)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def server_environment() -> dict[str, str]:
    """What vLLM on CPU needs around it; two servers share few cores."""
    environment = {
        **os.environ,
        "VLLM_TARGET_DEVICE": "cpu",
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "OMP_NUM_THREADS": "1",
        "PYTHONHASHSEED": "0",
        "VLLM_SERVER_DEV_MODE": "1",  # for /reset_prefix_cache
        "VLLM_NO_USAGE_STATS": "1",
        "HF_HUB_OFFLINE": "1",
    }
    environment.pop("PYTHONPATH", None)
    return environment


@dataclass(eq=False)
class RealVllm:
    """`start`, then `stop`; started again it takes the same ports."""

    name: str
    shape: ServerShape
    ports: list[int] = field(default_factory=lambda: free_ports(3))
    _process: "subprocess.Popen[bytes] | None" = None
    _family: set[ProcessId] = field(default_factory=set)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.ports[0]}"

    def launch(self) -> None:
        """Returns at once; `wait_well` waits."""
        shape = self.shape
        log = (shape.log_dir / f"{self.name}.log").open("ab")
        self._process = subprocess.Popen(
            [str(shape.environment / "bin" / "vllm"), *self._arguments()],
            stdout=log,
            stderr=log,
            env=server_environment(),
            start_new_session=True,
        )
        log.close()
        self._family = set()

    def _arguments(self) -> list[str]:
        shape = self.shape
        _, events, replay = self.ports
        told = (
            '{"enable_kv_cache_events":true,"publisher":"zmq","topic":"kv-events",'
            f'"endpoint":"tcp://*:{events}","replay_endpoint":"tcp://*:{replay}"}}'
        )
        options = {
            "--served-model-name": NAME,
            "--host": "127.0.0.1",
            "--port": str(self.ports[0]),
            "--dtype": shape.dtype,
            "--max-model-len": str(shape.max_model_len),
            "--max-num-seqs": str(shape.max_num_seqs),
            "--block-size": str(BLOCK_SIZE),
            "--num-gpu-blocks-override": str(shape.blocks),
            "--kv-events-config": told,
            "--enable-prompt-tokens-details": "",
            "--enable-prefix-caching": "",
            "--enforce-eager": "",
        }
        given = ["serve", str(shape.model)]
        for option, value in options.items():
            if option not in shape.lacks:
                given += [option, value] if value else [option]
        return [*given, *shape.more]

    def wait_well(self) -> float:
        """Seconds until it answered. Raises `SystemExit` where its log says more."""
        began_s = time.monotonic()
        while time.monotonic() - began_s < START_S:
            assert self._process is not None
            if self._process.poll() is not None:
                break
            with suppress(OSError):
                get(f"{self.url}/health")
                self._family = descendants(self._process.pid)
                return time.monotonic() - began_s
            time.sleep(POLL_S)
        self.stop()
        raise SystemExit(f"{self.name} did not start: see {self.shape.log_dir / self.name}.log")

    def kill(self, *, core: bool) -> None:
        """kill -9: of the process that computes, or of the one that answers HTTP."""
        assert self._process is not None
        if not core:
            self._process.kill()
            return
        cores = [one for one in self._family if CORE in title(one.pid)]
        assert cores, f"no process of {self.name} is called {CORE}"
        for one in cores:
            one.send(signal.SIGKILL)

    def stop(self) -> None:
        """Ends every process of it. Idempotent."""
        process = self._process
        if process is None:
            return
        own = identify(process.pid)
        family = self._family | descendants(process.pid) | ({own} if own else set())
        for one in family:
            one.send(signal.SIGKILL)
        process.wait()
        _until(lambda: not any(one.is_alive for one in family))
        self._process = None

    def counter(self, name: str) -> float:
        """One of its metrics, over all labels."""
        page = get(f"{self.url}/metrics")
        return total(samples(page, [name])[name]) or 0.0

    def reset_cache(self) -> None:
        post(f"{self.url}/reset_prefix_cache", {})


def title(pid: int) -> str:
    """How the process calls itself; empty once it is gone."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _until(condition: Callable[[], bool]) -> None:
    until_s = time.monotonic() + 30.0
    while not condition() and time.monotonic() < until_s:
        time.sleep(POLL_S)
