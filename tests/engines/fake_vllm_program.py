"""A `vllm` to put on the PATH: `vllm serve MODEL ...` is a fake vLLM, with an engine core below it.

It knows the flags of the real one that we use, and refuses others. The core is a process of its own
that outlives a killed server, as the real one does.
"""

import argparse
import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import zmq

from tests.engines import fake_events
from tests.engines.fake_events import FakeEvents
from tests.engines.fake_vllm import FakeVllm

ROOT = Path(__file__).resolve().parents[2]
CORE = "import time; time.sleep(600)"


def write_program(folder: Path) -> Path:
    """The folder to put on the PATH."""
    folder.mkdir()
    program = folder / "vllm"
    program.write_text(
        f"#!{sys.executable}\nimport sys\nsys.path.insert(0, {str(ROOT)!r})\n"
        "from tests.engines.fake_vllm_program import main\nmain(sys.argv[1:])\n"
    )
    program.chmod(0o755)
    return folder


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="vllm")
    parser.add_argument("command", choices=["serve"])
    parser.add_argument("model")
    parser.add_argument("--served-model-name", required=True)
    parser.add_argument("--host", required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--enable-prefix-caching", action="store_true")
    parser.add_argument("--enable-prompt-tokens-details", action="store_true")
    parser.add_argument("--kv-events-config", type=json.loads, default={})
    parser.add_argument("--block-size", type=int, default=4)
    parser.add_argument("--max-num-seqs", type=int, default=64)
    parser.add_argument("--fail", action="store_true", help="no flag of vLLM's: it ends at once")
    given = parser.parse_args(arguments)
    if given.fail:
        sys.exit(7)
    core = subprocess.Popen([sys.executable, "-c", CORE], start_new_session=True)
    asyncio.run(_serve(given))
    core.kill()
    core.wait()


async def _serve(given: argparse.Namespace) -> None:
    _bind_to(given.kv_events_config)
    engine = FakeVllm(
        block_size=given.block_size,
        max_num_seqs=given.max_num_seqs,
        step_s=0.02,
        has_prefix_cache=given.enable_prefix_caching,
        has_details=given.enable_prompt_tokens_details,
        has_events=bool(given.kv_events_config.get("enable_kv_cache_events")),
    )
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    await engine.start((given.port, 0, 0))
    await told.wait()
    await engine.kill()


def _bind_to(config: dict[str, str]) -> None:
    """Events where the flag says; a fake's own are on loopback."""

    def bound(self: FakeEvents, kind: int, _port: int) -> "zmq.Socket[bytes]":
        socket: zmq.Socket[bytes] = self._context.socket(kind)
        socket.setsockopt(zmq.LINGER, 0)
        socket.sndhwm = 0
        socket.bind(config["endpoint" if kind == zmq.PUB else "replay_endpoint"])
        return socket

    patched: Any = FakeEvents
    patched._bound = bound
    module: Any = fake_events
    module._port_of = lambda _socket: 0
