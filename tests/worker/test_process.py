"""The engine process: it starts, sleeps when idle, and never outlives the server process."""

import asyncio
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from radixroute.worker.engine.engine import EngineStep, TokenOutput
from radixroute.worker.errors import EngineDead, StartFailed
from radixroute.worker.process.engine_process import EngineProcess
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import FAKE_RUNNER, alone, ids, request

ROOT = Path(__file__).resolve().parents[2]
SETTINGS = WorkerSettings(block_size=4, kv_memory=256 * 32)

_PARENT = """
import asyncio, sys, time
from radixroute.worker.process.engine_process import EngineProcess
from radixroute.worker.settings import WorkerSettings

class SilentListener:
    def on_step(self, step): pass
    def on_refused(self, output): pass
    def on_dead(self, reason): pass

async def main():
    settings = WorkerSettings(block_size=4, kv_memory=8192)
    engine = EngineProcess(settings, SilentListener(), "tests.worker.fakes:make_runner")
    await engine.start()
    print(engine.pid, flush=True)
    time.sleep(60)

asyncio.run(main())
"""

_WITHOUT_TORCH = """
import sys
for banned in ("torch", "ray", "transformers", "safetensors", "gguf"):
    sys.modules[banned] = None
import importlib, pkgutil
worker = importlib.import_module("radixroute.worker")
names = [
    module.name
    for module in pkgutil.walk_packages(worker.__path__, "radixroute.worker.")
    if not module.name.startswith("radixroute.worker.model")
]
assert len(names) > 20, names
for name in names:
    importlib.import_module(name)
"""


class RecordingListener:
    """An `EngineListener` that keeps everything."""

    def __init__(self) -> None:
        self.outputs: list[TokenOutput] = []
        self.steps: list[EngineStep] = []
        self.refused: list[TokenOutput] = []
        self.death: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self.heard = asyncio.Event()

    def on_step(self, step):
        self.steps.append(step)
        self.outputs += step.outputs
        self.heard.set()

    def on_refused(self, output):
        self.refused.append(output)
        self.heard.set()

    def on_rendered(self, session_id, request_id, tokens):
        raise AssertionError("nobody asked")

    def on_dead(self, reason):
        self.death.set_result(reason)

    async def until(self, condition):
        async with asyncio.timeout(30):
            while not condition():
                self.heard.clear()
                await self.heard.wait()


async def test_requests_go_in_and_steps_come_out():
    listener = RecordingListener()
    engine = EngineProcess(SETTINGS, listener, FAKE_RUNNER)
    info = await engine.start()
    try:
        assert (info.model, info.kv_blocks_total, info.max_num_seqs) == ("fake", 256, 64)
        sent = request("a", [1, 2, 3], max_tokens=9, ignore_eos=True, dispatch_seq=4)
        engine.submit(sent)
        engine.submit(request("never", [], max_tokens=1))
        await listener.until(
            lambda: listener.outputs and listener.outputs[-1].finish and listener.refused
        )
        assert ids(listener.outputs) == alone([1, 2, 3], sent.sampling)
        assert "empty" in listener.refused[0].error
        assert listener.steps[-1].sessions[0].acknowledged_dispatch == 4
    finally:
        await engine.stop()
    assert not listener.death.done(), "a stop is no death"


async def test_an_idle_engine_sleeps():
    engine = EngineProcess(SETTINGS, RecordingListener(), FAKE_RUNNER)
    await engine.start()
    try:
        child = psutil.Process(engine.pid)
        spent_s = []
        for _ in range(20):  # what a start leaves behind may take a while
            before = sum(child.cpu_times()[:2])
            await asyncio.sleep(0.5)
            spent_s.append(sum(child.cpu_times()[:2]) - before)
            if spent_s[-1] <= 0.02:
                break
        assert spent_s[-1] <= 0.02, spent_s
    finally:
        await engine.stop()


async def test_a_stop_leaves_no_process_behind_and_may_come_twice():
    engine = EngineProcess(SETTINGS, RecordingListener(), FAKE_RUNNER)
    await engine.start()
    pid = engine.pid
    assert pid is not None
    await engine.stop()
    await engine.stop()
    assert not psutil.pid_exists(pid)
    with pytest.raises(EngineDead):
        engine.submit(request("a", [1]))


async def test_a_killed_engine_is_noticed_within_a_second():
    listener = RecordingListener()
    engine = EngineProcess(SETTINGS, listener, FAKE_RUNNER)
    await engine.start()
    assert engine.pid is not None
    os.kill(engine.pid, signal.SIGKILL)
    assert "signal 9" in await asyncio.wait_for(listener.death, 30)
    with pytest.raises(EngineDead):
        engine.submit(request("a", [1]))
    engine.abort("a", 1)  # nobody is left to hear it: no error
    await engine.stop()


async def test_a_listener_that_breaks_ends_the_engine_and_hears_of_it():
    class BreakingListener(RecordingListener):
        def on_step(self, step):
            raise ZeroDivisionError

    listener = BreakingListener()
    engine = EngineProcess(SETTINGS, listener, FAKE_RUNNER)
    await engine.start()
    engine.submit(request("a", [1]))
    assert "could not take a step" in await asyncio.wait_for(listener.death, 30)
    await engine.stop()


async def test_a_failed_start_says_why_and_leaves_nothing():
    before = len(psutil.Process().children())
    with pytest.raises(StartFailed, match="put one there"):
        await EngineProcess(
            SETTINGS, RecordingListener(), "tests.worker.fakes:broken_runner"
        ).start()
    assert len(psutil.Process().children()) == before


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_the_engine_never_outlives_its_parent(how):
    parent = subprocess.Popen(
        [sys.executable, "-c", _PARENT], stdout=subprocess.PIPE, cwd=ROOT, text=True
    )
    assert parent.stdout is not None
    child = psutil.Process(int(parent.stdout.readline()))
    parent.send_signal(how)
    parent.wait(10)
    parent.stdout.close()
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and _runs(child):
        time.sleep(0.01)
    assert not _runs(child)


def _runs(process):
    try:
        return process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def test_everything_but_the_model_imports_without_torch():
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_TORCH],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
