"""kill -9 of workers, router and controller under load: streams end whole, and each comes back."""

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
import pytest

from bench.chaos.faults import Fault
from bench.chaos.load import LoadSettings
from bench.chaos.run import ChaosSettings, run_on
from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.errors import DeployError
from radixroute.deploy.process_tree import ProcessId, descendants
from radixroute.deploy.state.records import ActorState, ClusterStatus
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from tests.e2e.story_cluster import story, story_cluster

STREAMS = 9  # never a multiple of the workers
TOKENS = 300
REJOIN_S = 60.0
POLL_S = 0.05

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(400)]


@dataclass
class Answer:
    """What one client saw of its stream."""

    positions: list[int] = field(default_factory=list)
    token_ids: list[int] = field(default_factory=list)
    finish: int = 0
    usage: pb.Usage | None = None
    has_begun: asyncio.Event = field(default_factory=asyncio.Event)

    def take(self, message: pb.GenerateResponse) -> None:
        ids = np.frombuffer(message.token_ids, dtype="<u4").tolist()
        self.positions.extend(range(message.position, message.position + len(ids)))
        self.token_ids.extend(ids)
        if ids:
            self.has_begun.set()
        self.finish = message.finish_reason or self.finish
        if message.HasField("usage"):
            self.usage = message.usage


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with story_cluster(tmp_path_factory.mktemp("tiny")) as cluster:
        yield cluster


async def _stream(router: rpc.RouterStub, index: int, answer: Answer) -> None:
    async for message in router.Generate(story(index, TOKENS), timeout=90):
        answer.take(message)


async def _all_answers(address: str, kill_pid: int | None) -> list[Answer]:
    """Every stream at once; the kill comes when all have begun and none has ended."""
    answers = [Answer() for _ in range(STREAMS)]
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as streams:
        router = rpc.RouterStub(channel)
        for index, answer in enumerate(answers):
            streams.create_task(_stream(router, index, answer))
        if kill_pid is not None:
            await asyncio.gather(*(answer.has_begun.wait() for answer in answers))
            assert not any(answer.finish for answer in answers), "too late to kill: ask for more"
            os.kill(kill_pid, 9)
    return answers


def _status_of(address: str, worker_id: str) -> pb.WorkerStatus:
    with grpc.insecure_channel(address) as channel:
        listed = rpc.InspectStub(channel).ListWorkers(pb.ListWorkersRequest(), timeout=5)
    found: dict[str, pb.WorkerStatus] = {worker.worker_id: worker for worker in listed.workers}
    return found.get(worker_id, pb.WorkerStatus(worker_id=worker_id))


def _await_indexed(address: str, worker_id: str) -> pb.WorkerStatus:
    """Events come a moment after the answers: the index must have something to lose."""
    give_up_s = time.monotonic() + REJOIN_S
    while time.monotonic() < give_up_s:
        now = _status_of(address, worker_id)
        if now.indexed_blocks > 0:
            return now
        time.sleep(POLL_S)
    raise AssertionError(f"no block of {worker_id} was ever indexed: {now}")


def _await_rejoin(address: str, before: pb.WorkerStatus) -> pb.WorkerStatus:
    give_up_s = time.monotonic() + REJOIN_S
    while time.monotonic() < give_up_s:
        now = _status_of(address, before.worker_id)
        if now.state == "live" and now.epoch != before.epoch:
            return now
        time.sleep(POLL_S)
    raise AssertionError(f"{before.worker_id} did not rejoin: {now}")


def test_streams_survive_a_killed_worker_and_it_rejoins_empty(cluster: LocalCluster):
    address = cluster.router_address
    undisturbed = asyncio.run(_all_answers(address, None))
    victim = cluster.status.workers[0]
    before = _await_indexed(address, victim.name)

    disturbed = asyncio.run(_all_answers(address, victim.pid))

    for calm, stirred in zip(undisturbed, disturbed, strict=True):
        assert stirred.finish == pb.FINISH_REASON_LENGTH
        assert stirred.positions == list(range(TOKENS))
        assert stirred.token_ids == calm.token_ids
    moved = [a for a in disturbed if a.usage is not None and a.usage.attempts > 1]
    assert moved, "no stream was on the killed worker"
    after = _await_rejoin(address, before)
    assert after.indexed_blocks == 0
    assert after.epoch != before.epoch


def test_a_killed_router_comes_back_on_its_port_with_its_workers(cluster: LocalCluster):
    address = cluster.router_address
    before = cluster.status.router
    assert before.pid is not None
    os.kill(before.pid, 9)
    give_up_s = time.monotonic() + REJOIN_S
    while cluster.status.router.incarnation == before.incarnation or not cluster.status.is_live:
        assert time.monotonic() < give_up_s
        time.sleep(POLL_S)
    assert cluster.status.router.address == address
    assert cluster.status.router.state is ActorState.LIVE
    (answer, *_) = asyncio.run(_all_answers(address, None))
    assert answer.positions == list(range(TOKENS))


def test_the_client_library_mends_what_a_killed_engine_and_a_killed_router_break(
    cluster: LocalCluster,
):
    kinds = (Fault.ENGINE, Fault.ROUTER)
    load = LoadSettings(streams=16, prompts=5)
    outcome = run_on(cluster, ChaosSettings(requests=20, kills=2, kinds=kinds, load=load), print)
    assert set(outcome.faults) == set(kinds)
    assert outcome.requests >= 20
    assert outcome.resumes["by_clients"] > 0
    assert outcome.tally.is_sound, outcome.record


def test_a_killed_controller_is_replaced_and_adopts_the_living(cluster: LocalCluster):
    address, before = cluster.router_address, cluster.status
    (controller,) = (
        process for process in descendants(os.getpid()) if _command(process) == "ray::Controller"
    )
    controller.send(signal.SIGKILL)
    (answer, *_) = asyncio.run(_all_answers(address, None))  # nobody needs it for serving
    assert answer.positions == list(range(TOKENS))
    after = _settled_status(cluster)
    assert [a.pid for a in after.actors] == [a.pid for a in before.actors]
    assert [a.incarnation for a in after.actors] == [a.incarnation for a in before.actors]
    assert before.workers[1].pid is not None
    os.kill(before.workers[1].pid, 9)
    give_up_s = time.monotonic() + REJOIN_S
    while cluster.status.workers[1].incarnation <= before.workers[1].incarnation:
        assert time.monotonic() < give_up_s
        time.sleep(POLL_S)
    _await_rejoin(address, _status_of(address, "worker-1"))


def _settled_status(cluster: LocalCluster) -> ClusterStatus:
    """The status once a controller answers again."""
    give_up_s = time.monotonic() + REJOIN_S
    while time.monotonic() < give_up_s:
        with suppress(DeployError):
            if (status := cluster.status).is_live:
                return status
        time.sleep(POLL_S)
    raise AssertionError("no controller answers")


def _command(process: ProcessId) -> str:
    return Path(f"/proc/{process.pid}/cmdline").read_text().rstrip("\0 ")


def test_restart_gives_fresh_workers_and_another_policy_at_the_same_address(
    cluster: LocalCluster,
):
    address, before = cluster.router_address, cluster.status
    cluster.restart(policy="random")
    after = cluster.status
    assert cluster.router_address == address
    assert not {actor.pid for actor in before.actors} & {actor.pid for actor in after.actors}
    with grpc.insecure_channel(address) as channel:
        info = rpc.InspectStub(channel).RouterInfo(pb.RouterInfoRequest(), timeout=5)
    assert info.policy == "random"
    assert [_status_of(address, worker.name).indexed_blocks for worker in after.workers] == [0, 0]
