"""SIGTERM: what runs ends whole. Raw gRPC streams, so that no client library mends anything."""

import asyncio
import signal
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest

from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.process_tree import identify
from radixroute.deploy.state.records import ActorStatus
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import unpack_tokens
from tests.e2e.story_cluster import story, story_cluster

STREAMS = 4
TOKENS = 400
BACK_S = 60.0
POLL_S = 0.05

pytestmark = [pytest.mark.e2e, pytest.mark.torch, pytest.mark.timeout(400)]


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    with story_cluster(tmp_path_factory.mktemp("tiny")) as cluster:
        yield cluster


class Stream:
    """One answer as it came."""

    def __init__(self) -> None:
        self.token_ids: list[int] = []
        self.usage = pb.Usage()
        self.has_begun = asyncio.Event()

    async def read(self, router: rpc.RouterStub, index: int) -> None:
        request = story(index, TOKENS)
        async for message in router.Generate(request, timeout=90):
            assert message.position == len(self.token_ids)
            self.token_ids += unpack_tokens(message.token_ids).tolist()
            self.has_begun.set()
            if message.HasField("usage"):
                self.usage = message.usage


async def _streams_under(address: str, strike: Callable[[], object]) -> list[Stream]:
    """The strike comes when all have begun."""
    streams = [Stream() for _ in range(STREAMS)]
    async with grpc.aio.insecure_channel(address) as channel, asyncio.TaskGroup() as reading:
        router = rpc.RouterStub(channel)
        for index, stream in enumerate(streams):
            reading.create_task(stream.read(router, index))
        await asyncio.gather(*(stream.has_begun.wait() for stream in streams))
        await asyncio.to_thread(strike)
    return streams


def _assert_undisturbed(streams: list[Stream]) -> None:
    for stream in streams:
        assert len(stream.token_ids) == TOKENS
        assert stream.usage.attempts == 1  # it ended where it began


def _tell_to_end(actor: ActorStatus) -> None:
    assert actor.pid is not None
    found = identify(actor.pid)
    assert found is not None
    found.send(signal.SIGTERM)


def _await_next_life(cluster: LocalCluster, before: ActorStatus) -> None:
    give_up_s = time.monotonic() + BACK_S
    while time.monotonic() < give_up_s:
        status = cluster.status
        now = next(one for one in status.actors if one.name == before.name)
        if status.is_live and now.incarnation > before.incarnation:
            assert "told to end" in now.reason
            return
        time.sleep(POLL_S)
    raise AssertionError(f"{before.name} did not come back")


@pytest.mark.deep
@pytest.mark.parametrize("name", ["worker-0", "router"])
def test_an_actor_told_to_end_drains_and_the_next_one_comes(cluster: LocalCluster, name: str):
    before = next(one for one in cluster.status.actors if one.name == name)
    streams = asyncio.run(_streams_under(cluster.router_address, lambda: _tell_to_end(before)))
    _assert_undisturbed(streams)
    _await_next_life(cluster, before)


@pytest.mark.deep
def test_a_cluster_that_is_stopped_ends_what_runs_whole(cluster: LocalCluster):
    """The last test here: nothing of the cluster is left afterwards."""
    address, has_begun = cluster.router_address, threading.Event()
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(lambda: asyncio.run(_streams_under(address, has_begun.set)))
        assert has_begun.wait(BACK_S)
        cluster.stop()
        _assert_undisturbed(reading.result())
