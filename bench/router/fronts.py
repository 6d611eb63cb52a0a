"""What stands between clients and engines, each as its README starts it; `start` to `stop`.

A front is a process tree with an HTTP port; ours has a gRPC port beside it.
"""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Sequence
from contextlib import closing, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.router.bodies import MODEL
from bench.router.cpu import cpu_ns, tree

START_S: Final = 300.0  # kernels may have to be compiled
STOP_S: Final = 10.0
_COMPANION: Final = b"radixroute.worker.companion_process"
_HERE: Final = Path(__file__).resolve().parents[2]
ROUTERS: Final = _HERE / ".cache/routers/bin"
_NGINX: Final = """daemon off; worker_processes 1; pid {folder}/nginx.pid;
error_log {folder}/nginx.err error;
events {{ worker_connections 16384; }}
http {{ access_log off; keepalive_requests 1000000000; keepalive_timeout 600s;
client_max_body_size 64m; client_body_buffer_size 256k;
client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy;
fastcgi_temp_path {folder}/fastcgi; uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
upstream engines {{ {servers} keepalive 4096; keepalive_requests 1000000000; }}
server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://engines;
proxy_http_version 1.1; proxy_set_header Connection ""; proxy_buffering off; }} }} }}
"""


@dataclass(eq=False)
class Front:
    """One that serves."""

    name: str
    http_port: int
    process: "subprocess.Popen[str]"
    grpc_port: int = 0

    def pids(self) -> tuple[int, ...]:
        """All between client and engine."""
        return tree(self.process.pid)

    def parts_us(self) -> dict[str, float]:
        """CPU time of each kind of process of it, in us; nothing where there is one kind."""
        parts: dict[str, int] = {}
        for pid in self.pids():
            is_companion = _COMPANION in Path(f"/proc/{pid}/cmdline").read_bytes()
            part = "companion" if is_companion else "router"
            parts[part] = parts.get(part, 0) + cpu_ns((pid,))
        return {} if len(parts) < 2 else {part: ns / 1e3 for part, ns in parts.items()}

    def stop(self) -> None:
        end(self.process)


def started(
    module: str, *args: object, checkout: Path = _HERE
) -> "tuple[subprocess.Popen[str], list[int]]":
    """A process of ours and the ports that its first line says; it ends with its input."""
    process = subprocess.Popen(
        [sys.executable, "-m", f"bench.router.{module}", *map(str, args)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=checkout,
        env={**os.environ, "PYTHONPATH": str(checkout)},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise SystemExit(f"bench.router.{module} ended; what it said is above")
    return process, [int(port) for port in line.split()]


def ours(workers: Sequence[int], name: str = "ours", checkout: Path = _HERE) -> Front:
    """Over worker sessions of our own, in plain frames."""
    process, (grpc_port, http_port) = started("our_router", *workers, checkout=checkout)
    front = Front(name, http_port, process, grpc_port)
    _await(front)
    return front


def ours_beside(
    engines: Sequence[int], folder: Path, name: str = "ours.companion", checkout: Path = _HERE
) -> Front:
    """`radixroute serve`: the same router, and companions beside engines that are not ours."""
    grpc_port, http_port = free_port(), free_port()
    command = [sys.executable, "-m", "radixroute", "serve", "--allow-no-events"]
    command += ["--port", str(grpc_port), "--http-port", str(http_port)]
    for setting in (
        "router.metrics_port=none",
        "companion.dialect=vllm",  # it answers what an SGLang is asked, too, for the peers
        "companion.fingerprint=00",
        "companion.max_num_seqs=8192",
    ):
        command += ["--set", setting]
    for port in engines:
        command += ["--engine", f"http://127.0.0.1:{port}"]
    runtime = tempfile.mkdtemp(prefix="rr-bench-")
    env = {"RADIXROUTE_CLUSTER_RUNTIME_DIR": runtime, "PYTHONPATH": str(checkout)}
    process = _launch(name, command, folder, env, checkout)
    log = folder / f"{name}.log"
    _until(lambda: "serving with all" in log.read_text(), process, log)
    front = Front(name, http_port, process, grpc_port)
    _await(front)
    return front


def nginx(engines: Sequence[int], folder: Path) -> Front:
    program = shutil.which("nginx") or shutil.which("nginx", path="/usr/sbin")
    if program is None:
        raise SystemExit("nginx is not there: apt-get install nginx-light")
    port, config = free_port(), folder / "nginx.conf"
    servers = " ".join(f"server 127.0.0.1:{engine};" for engine in engines)
    config.write_text(_NGINX.format(folder=folder, servers=servers, port=port))
    command = [program, "-p", str(folder), "-c", str(config)]
    front = Front("nginx", port, _launch("nginx", command, folder, {}))
    _await(front)
    return front


def theirs(program: str, engines: Sequence[int], folder: Path) -> Front:
    """`sglang-router` or `vllm-router`, aware of prefixes."""
    port, metrics = free_port(), free_port()
    command = [str(ROUTERS / program), *(["launch"] if program == "sglang-router" else [])]
    command += ["--host", "127.0.0.1", "--port", str(port), "--policy", "cache_aware"]
    command += ["--prometheus-port", str(metrics), "--prometheus-host", "127.0.0.1"]
    command += ["--log-level", "warn" if program == "sglang-router" else "warning"]
    command += ["--max-concurrent-requests", "16384"]
    command += ["--worker-urls", *(f"http://127.0.0.1:{engine}" for engine in engines)]
    # A router that looks for a tokenizer of an unknown model must not go and search the network.
    offline = {"HF_HUB_OFFLINE": "1", "HF_ENDPOINT": "http://127.0.0.1:9"}
    front = Front(program, port, _launch(program, command, folder, offline))
    _await(front)
    return front


def free_port() -> int:
    with closing(socket.socket()) as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


def end(process: "subprocess.Popen[str]") -> None:
    if process.stdin is not None:
        process.stdin.close()
    else:
        process.send_signal(signal.SIGTERM)
    try:
        process.wait(STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _launch(
    name: str, command: list[str], folder: Path, more: dict[str, str], cwd: Path = _HERE
) -> "subprocess.Popen[str]":
    with (folder / f"{name}.log").open("w") as log:
        return subprocess.Popen(
            command, stdout=log, stderr=log, env={**os.environ, **more}, text=True, cwd=cwd
        )


def _await(front: Front) -> None:
    """Until a completion comes through."""
    body = f'{{"model":"{MODEL}","prompt":"hello","max_tokens":1,"stream":true}}'.encode()
    url = f"http://127.0.0.1:{front.http_port}/v1/completions"
    asked = urllib.request.Request(url, body, {"Content-Type": "application/json"})

    def answers() -> bool:
        with suppress(OSError, urllib.error.URLError), urllib.request.urlopen(asked, timeout=5):
            return True
        return False

    _until(answers, front.process, Path(front.name))


def _until(holds, process: "subprocess.Popen[str]", log: Path) -> None:  # type: ignore[no-untyped-def]
    give_up_s = time.monotonic() + START_S
    while not holds():
        if time.monotonic() > give_up_s or process.poll() is not None:
            end(process)
            raise SystemExit(f"no router came up: see {log}")
        time.sleep(0.1)
