"""Child: the engine process itself, `python -m radixroute.worker.process.child --fd N ...`.

Builds the runner that the settings name and drives the engine; whatever ends it travels back as a
sentence that says what to do. Never outlives the server process: it dies with its parent and ends
when the pipe closes. Started by `EngineProcess` alone.
"""

import argparse
import ctypes
import importlib
import logging
import os
import signal
import socket
import sys
import time

from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.keys.block_keys import warm
from radixroute.worker.engine.inference import InferenceEngine
from radixroute.worker.engine.runner import ModelRunner
from radixroute.worker.errors import MalformedMessage, WorkerError
from radixroute.worker.process.engine_loop import EngineLoop
from radixroute.worker.process.messages import Failed, Ready, Start
from radixroute.worker.process.pipe import Pipe, PipeClosed
from radixroute.worker.settings import WorkerSettings

_PR_SET_PDEATHSIG = 1
# glibc's mallopt. By default it hands large freed blocks back to the kernel, and each layer of each
# step faults the same few MB in again: 8 decodes at 1,400 tokens took 229 ms a step instead of 79.
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_KEEP_FREED_BYTES = 1 << 30  # far above what one step allocates
_log = logging.getLogger("radixroute.worker.process.child")


def main(arguments: list[str]) -> int:
    """Runs until the server process goes away; the exit code is 0 only then."""
    parser = argparse.ArgumentParser(prog="radixroute.worker.process.child")
    parser.add_argument("--fd", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    parser.add_argument("--runner", required=True, help="module:function(settings)")
    options = parser.parse_args(arguments)
    die_with(options.parent)
    keep_freed_memory()
    # Both go to whole groups of processes: the server stops us in its own order.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    logging.basicConfig(format="%(asctime)s %(levelname)s engine[%(process)d] %(message)s")
    logging.getLogger("radixroute").setLevel(logging.INFO)
    os.set_inheritable(options.fd, False)
    pipe = Pipe(socket.socket(fileno=options.fd))
    try:
        return _serve(pipe, options.runner)
    except PipeClosed:
        return 0


def _serve(pipe: Pipe, runner: str) -> int:
    """Start, run and, if it comes to that, say why it ended."""
    try:
        engine = _build(pipe, runner)
        pipe.send(Ready(engine.info))
        EngineLoop(engine, pipe, time.monotonic_ns).run()
    except PipeClosed:
        raise
    except (WorkerError, BrokenInvariant) as error:
        pipe.send(Failed(str(error)))
    except MemoryError:
        pipe.send(Failed("not enough memory: lower worker.kv_memory or take a smaller model"))
    except Exception as error:  # noqa: BLE001  # the process ends; the server hears why
        _log.exception("the engine process ends")
        pipe.send(Failed(f"{type(error).__name__}: {error}"))
    return 1


def _build(pipe: Pipe, runner: str) -> InferenceEngine:
    first, *early = pipe.receive(wait=True)
    if not isinstance(first, Start) or early:
        raise MalformedMessage("the first message must be the settings")
    warm()
    return InferenceEngine(first.settings, _load_runner(runner, first.settings), time.monotonic_ns)


def _load_runner(name: str, settings: WorkerSettings) -> ModelRunner:
    """Imports the one module that may bring torch in."""
    module, _, function = name.partition(":")
    runner: ModelRunner = getattr(importlib.import_module(module), function)(settings)
    return runner


def die_with(parent: int) -> None:
    """SIGKILL when the parent dies; it may have died before we asked."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:
        sys.exit(1)


def keep_freed_memory() -> None:
    """Memory that a step has freed serves the next one. Only glibc knows this call."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _KEEP_FREED_BYTES)
        mallopt(_M_TRIM_THRESHOLD, _KEEP_FREED_BYTES)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
