"""Own engine: a worker that starts an engine's server, serves it through a companion and ends it.

Implements `Service` of `service_host`: a `WorkerService` over a companion, and the `OwnServer` that
it speaks to. Either one's end is the end of both. Owns the flags that make a server one that may
join.
"""

import asyncio
import json
import logging
import shutil
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from radixroute.deploy.actors.own_server import OwnServer
from radixroute.deploy.state.run_folder import actor_log
from radixroute.deploy.state.state_file import runtime_dir
from radixroute.worker.companions.companion import companion
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.errors import NotStarted, StartFailed
from radixroute.worker.service import WorkerAddress, WorkerService
from radixroute.worker.settings import WorkerSettings

log = logging.getLogger(__name__)

PROGRAM = "vllm"
LOOPBACK = "127.0.0.1"
FOLDER = "own-servers"  # in the folder of state files


@dataclass(frozen=True, slots=True)
class ServerSettings:
    """The servers of a cluster's workers."""

    companion: CompanionSettings
    cluster: str = "default"  # its name
    arguments: Sequence[str] = ()  # after those that let it join
    runtime_dir: str = ""  # where it is on record
    run_dir: str = ""  # where it logs; empty or not on this machine: to stderr


class OwnEngine:
    """`start` once, then `wait_failed`, then `stop`."""

    def __init__(self, worker: WorkerSettings, settings: ServerSettings) -> None:
        """Raises `ConfigError` where it cannot be put on record."""
        self._settings = settings
        self._worker_settings = worker
        name = f"{settings.cluster}-{worker.worker_id}"
        record = runtime_dir(settings.runtime_dir) / FOLDER / f"{name}.json"
        run = Path(settings.run_dir) if settings.run_dir else None
        log_path = actor_log(run, f"{worker.worker_id}-server") if run and run.is_dir() else None
        self._server = OwnServer(record, log_path)
        self._worker: WorkerService | None = None
        self._failure: asyncio.Future[str] | None = None
        self._watching: asyncio.Task[None] | None = None

    @property
    def server_pid(self) -> int | None:
        return self._server.pid

    async def start(self) -> WorkerAddress:
        """Returns once the engine has joined. Raises `FixConfig` with what to do; nothing of it is
        left running then."""
        loop = asyncio.get_running_loop()
        try:
            n_orphans = await loop.run_in_executor(None, self._server.prepare)
            if n_orphans:
                log.warning("ended %d processes that a former life had left", n_orphans)
            port = free_port()
            worker, settings = self._worker_settings, self._settings
            self._server.start(serve_command(worker, settings, port, self._server.folder))
            return await self._join(port)
        except BaseException:
            await self.stop()
            raise

    async def wait_failed(self) -> str:
        """Why it cannot go on; its server has ended by then."""
        if self._failure is None:
            raise NotStarted("the engine was not started")
        return await asyncio.shield(self._failure)

    async def stop(self, drain_s: float = 0.0) -> None:
        """The worker first: what runs gets `drain_s` to end whole. Idempotent."""
        if self._watching is not None:
            self._watching.cancel()
        if self._worker is not None:
            await self._worker.stop(drain_s)
        await asyncio.get_running_loop().run_in_executor(None, self._server.stop)

    async def _join(self, port: int) -> WorkerAddress:
        """Its server may end before it ever answers."""
        places = _places(self._server.folder)
        settings = replace(
            self._settings.companion, dialect="vllm", events=places[0], replay=places[1]
        )
        worker = self._worker_settings
        host = companion(settings, f"http://{LOOPBACK}:{port}", worker)
        self._worker = WorkerService(worker, host=host)
        joining = asyncio.create_task(self._worker.start())
        ended = asyncio.create_task(self._server.wait_ended())
        try:
            await asyncio.wait([joining, ended], return_when=asyncio.FIRST_COMPLETED)
            if not joining.done():
                raise StartFailed(f"its server `{PROGRAM} serve` {ended.result()}")
            address = joining.result()
        except BaseException:
            for task in (joining, ended):
                task.cancel()
            await asyncio.wait([joining, ended])
            raise
        self._failure = asyncio.get_running_loop().create_future()
        self._watching = asyncio.create_task(self._watch(self._worker, ended, self._failure))
        return address

    async def _watch(
        self, worker: WorkerService, ended: "asyncio.Task[str]", failure: "asyncio.Future[str]"
    ) -> None:
        """Whatever ends first ends the other: its owner may leave as soon as it knows."""
        failed = asyncio.create_task(worker.wait_failed())
        try:
            await asyncio.wait([failed, ended], return_when=asyncio.FIRST_COMPLETED)
            reason = f"its server {ended.result()}" if ended.done() else failed.result()
        finally:
            failed.cancel()
            ended.cancel()
        await asyncio.get_running_loop().run_in_executor(None, self._server.stop)
        failure.set_result(reason)


def serve_command(
    worker: WorkerSettings, settings: ServerSettings, port: int, folder: Path
) -> list[str]:
    """`vllm serve` so that it may join. Its sockets of events are files that nobody else can open:
    over TCP it would bind them on every interface."""
    beside_us = str(Path(sys.executable).parent)
    program = shutil.which(PROGRAM) or shutil.which(PROGRAM, path=beside_us)
    if program is None:
        raise StartFailed(
            f"no `{PROGRAM}` on the PATH of this worker: install vLLM there, or start it yourself"
            " and use `radixroute serve`"
        )
    events, replay = _places(folder)
    publisher = {
        "enable_kv_cache_events": True,
        "publisher": "zmq",
        "endpoint": events,
        "replay_endpoint": replay,
        "topic": "kv-events",
    }
    name = worker.served_model_name or Path(worker.model).name
    command = [program, "serve", worker.model, "--served-model-name", name]
    command += ["--host", LOOPBACK, "--port", str(port), "--enable-prefix-caching"]
    command += ["--enable-prompt-tokens-details", "--kv-events-config", json.dumps(publisher)]
    for flag, value in (
        ("--block-size", settings.companion.block_size),
        ("--max-num-seqs", settings.companion.max_num_seqs),
        ("--max-num-batched-tokens", settings.companion.max_num_batched_tokens),
    ):
        command += [flag, str(value)] if value else []
    return [*command, *settings.arguments]


def free_port() -> int:
    """One that nobody had a moment ago."""
    with socket.create_server((LOOPBACK, 0)) as probe:
        return int(probe.getsockname()[1])


def _places(folder: Path) -> tuple[str, str]:
    """Of its events, and of replays."""
    return f"ipc://{folder}/events", f"ipc://{folder}/replay"
