"""Workers that own a `vllm serve`: it joins, and it goes with its worker on every end."""

import asyncio
import os
import signal
import sys
from pathlib import Path

import grpc
import pytest

from radixroute.deploy.actors.own_engine import OwnEngine, ServerSettings, serve_command
from radixroute.deploy.actors.own_server import TOKEN
from radixroute.deploy.errors import ConfigError
from radixroute.deploy.process_tree import await_gone, descendants, identify, with_variable
from radixroute.deploy.settings import ClusterSettings
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.errors import StartFailed
from radixroute.worker.settings import WorkerSettings
from tests.engines.fake_vllm_program import write_program
from tests.worker.fakes import make_tokenizer

LIMIT_S = 30.0


@pytest.fixture
def model(tmp_path, monkeypatch):
    """A folder with a tokenizer; the program is on the PATH."""
    programs = write_program(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    folder = tmp_path / "fake-model"
    folder.mkdir()
    for name, content in make_tokenizer().files().items():
        (folder / name).write_bytes(content)
    (tmp_path / "run").mkdir(mode=0o700)
    (tmp_path / "logs").mkdir()
    return folder


def engine(model, *arguments, **companion):
    settings = ServerSettings(
        CompanionSettings(poll_s=0.05, **companion),
        arguments=arguments,
        runtime_dir=str(model.parent / "run"),
        run_dir=str(model.parent / "logs"),
    )
    worker = WorkerSettings(model=str(model), cluster_secret="s", metrics_port=None)
    return OwnEngine(worker, settings)


def family(one):
    """Every process of its server."""
    return {alive(one.server_pid), *descendants(one.server_pid)}


def alive(pid):
    found = identify(pid)
    assert found is not None
    return found


def record(model):
    return model.parent / "run" / "own-servers" / "default-worker-0.json"


async def until(condition):
    async with asyncio.timeout(LIMIT_S):
        while not condition():  # noqa: ASYNC110 - processes tell nobody here
            await asyncio.sleep(0.02)


async def test_it_starts_a_server_that_may_join_and_ends_it_with_its_core(model):
    one = engine(model, max_num_seqs=7)
    address = await one.start()
    try:
        async with grpc.aio.insecure_channel(str(address)) as channel:
            info = await rpc.EngineStub(channel).GetInfo(pb.GetInfoRequest())
        assert (info.engine_kind, info.model, info.block_size) == ("vllm", "fake-model", 4)
        assert info.max_num_seqs == 7
        before = family(one)
        assert len(before) == 2
        folder = one._server.folder
        assert folder.stat().st_mode & 0o077 == 0
        assert {path.name for path in folder.iterdir()} == {"events", "replay"}
    finally:
        await one.stop()
    assert not await_gone(before, 0)
    assert not folder.exists()
    assert not record(model).exists()
    assert (model.parent / "logs" / "worker-0-server.log").exists()


async def test_a_killed_server_ends_the_worker_and_its_orphaned_core(model):
    one = engine(model)
    await one.start()
    try:
        before = family(one)
        os.kill(one.server_pid, signal.SIGKILL)
        async with asyncio.timeout(LIMIT_S):
            reason = await one.wait_failed()
        assert "signal 9" in reason or "engine" in reason
        assert not await_gone(before, 0)
    finally:
        await one.stop()


async def test_a_server_that_ends_while_it_starts_is_told_with_its_log(model):
    with pytest.raises(StartFailed, match=r"ended with status 7; its log is .*worker-0-server"):
        await engine(model, "--fail").start()
    assert not record(model).exists()


async def test_a_server_that_may_not_join_is_ended(model):
    one = engine(model, max_num_batched_tokens=9)  # the fake knows no such flag
    with pytest.raises(StartFailed, match="ended with status 2"):
        await one.start()


_LIFE = """
import asyncio, sys
from pathlib import Path
from tests.e2e.test_own_engine import engine

async def main():
    one = engine(Path(sys.argv[1]))
    await one.start()
    print(one.server_pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


async def started(model):
    """A worker in a process of its own, and its server's number."""
    life = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _LIFE, str(model), stdout=asyncio.subprocess.PIPE
    )
    assert life.stdout is not None
    async with asyncio.timeout(LIMIT_S):
        return life, int(await life.stdout.readline())


async def test_the_next_life_ends_what_a_killed_one_left(model):
    life, pid = await started(model)
    server, core = alive(pid), *descendants(pid)
    os.kill(pid, signal.SIGSTOP)  # it cannot end its core
    life.kill()
    await life.wait()
    assert server.is_alive
    assert core.is_alive
    one = engine(model)
    await one.start()
    try:
        assert not await_gone({server, core}, 0)
        assert one.server_pid != pid
    finally:
        await one.stop()


async def test_a_server_hears_when_its_worker_is_killed(model):
    life, pid = await started(model)
    processes = {alive(pid), *descendants(pid)}
    life.kill()
    await life.wait()
    assert not await asyncio.to_thread(await_gone, processes, LIMIT_S)


def test_nothing_without_the_token_is_ever_ended(monkeypatch):
    monkeypatch.setenv(TOKEN, "abc")  # of this process only as it was started: not here
    assert with_variable(TOKEN, "abc") == set()


def test_without_the_program_it_says_what_to_install(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    settings = ServerSettings(CompanionSettings())
    with pytest.raises(StartFailed, match="install vLLM"):
        serve_command(WorkerSettings(model="m"), settings, 1, Path("/tmp/x"))


def test_an_engine_nobody_knows_is_refused():
    with pytest.raises(ConfigError, match="torch, vllm"):
        ClusterSettings(engine="vlm")
