"""`radixroute up --engine vllm`, a fake `vllm` on the PATH: Ray actors that own their servers.

With TLS at the doors and between router and workers, all of it through.
"""

import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import time
from contextlib import suppress

import pytest

from radixroute.deploy.actors.own_server import TOKEN
from radixroute.deploy.process_tree import await_gone, descendants, identify
from radixroute.deploy.state.state_file import read_state, runtime_dir
from tests.engines.fake_vllm_program import write_program
from tests.trust.certificates import made_in
from tests.worker.fakes import make_tokenizer

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(400)]
LIMIT_S = 150.0
NAME = "owned"
# Paths as somebody writes them beside the file: the daemon and its actors run in other folders.
SETTINGS = """
[router]
port = 0
http_port = 0
metrics_port = "none"
tls_cert_file = "certs/router.pem"
tls_key_file = "certs/router-key.pem"
link_ca_file = "certs/ca.pem"
[worker]
tls_cert_file = "certs/worker.pem"
tls_key_file = "certs/worker-key.pem"
tls_ca_file = "certs/ca.pem"
[client]
ca_file = "certs/ca.pem"
"""


@pytest.fixture
def front(tmp_path):
    """Runs commands in a folder with a model and settings."""
    model = tmp_path / "fake-model"
    model.mkdir()
    for name, content in make_tokenizer().files().items():
        (model / name).write_bytes(content)
    programs = write_program(tmp_path / "bin")
    made_in(tmp_path / "certs")
    (tmp_path / "radixroute.toml").write_text(
        f'[cluster]\nname = "{NAME}"\nnum_cpus = 2\nruntime_dir = "{tmp_path / "run"}"\n{SETTINGS}'
    )
    environment = {**os.environ, "PATH": f"{programs}:{os.environ['PATH']}"}

    def run(*arguments):
        return subprocess.run(
            [sys.executable, "-m", "radixroute", *arguments],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
            env=environment,
        )

    yield run
    run("down")


def servers(below):
    """Those of the fake servers among these processes, with their cores."""
    return {process for process in below if TOKEN.encode() in (environment_of(process.pid) or b"")}


def environment_of(pid):
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return file.read()
    except OSError:
        return None


def workers(front):
    return {
        one["worker_id"]: one for one in json.loads(front("workers", "--json").stdout)["workers"]
    }


def test_workers_own_their_servers_and_everything_goes_with_down(front, tmp_path):
    up = front("up", "--engine", "vllm", "--model", "fake-model", "--workers", "2")
    assert up.returncode == 0, up.stderr
    url = re.search(r"https://\S+", up.stderr)
    assert url is not None, up.stderr
    models = subprocess.run(
        ["curl", "-sS", "--cacert", tmp_path / "certs" / "ca.pem", f"{url[0]}/models"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "fake-model" in models.stdout
    for worker in workers(front).values():  # whoever comes without a router's certificate
        host, _, port = worker["address"].rpartition(":")
        plain = ssl.create_default_context(cafile=tmp_path / "certs" / "ca.pem")
        with (
            socket.create_connection((host, int(port)), LIMIT_S) as sock,
            suppress(OSError),
            plain.wrap_socket(sock, server_hostname=host) as secure,
        ):
            assert secure.recv(1) == b""
    state = read_state(runtime_dir(str(tmp_path / "run")), NAME)
    assert state is not None
    assert state.process is not None
    family = descendants(state.process.pid)
    owned = servers(family)
    assert len(owned) == 4  # two servers, each with a core
    assert {one["state"] for one in workers(front).values()} == {"live"}
    answer = front("submit", "hello", "--raw", "--max-tokens", "4", "--temperature", "0")
    assert answer.returncode == 0, answer.stderr

    victim = min(owned, key=lambda process: process.started_ticks)
    victim.send(signal.SIGKILL)
    give_up_s = time.monotonic() + LIMIT_S
    while (seen := workers(front)) and not (
        any(one["deaths"] for one in seen.values())
        and {one["state"] for one in seen.values()} == {"live"}
    ):
        assert time.monotonic() < give_up_s, seen
    below = servers(descendants(state.process.pid))
    assert len(below) == 4  # a new server and a new core; nothing of the dead one
    assert not victim.is_alive

    assert identify(state.process.pid) is not None
    assert front("down").returncode == 0
    assert not await_gone(below, 0)
