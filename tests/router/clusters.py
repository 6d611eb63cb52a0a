"""A router with fake workers listed, and what tests say about its streams."""

import asyncio
from contextlib import asynccontextmanager

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import pack_tokens, unpack_tokens
from radixroute.router.service import RouterService
from radixroute.router.settings import RouterSettings
from tests.router.fakes import SECRET, FakeWorker, answer, text_of

PROMPT = list(range(20, 60))


def settings(**changes) -> RouterSettings:
    return RouterSettings(
        **{"port": 0, "metrics_port": 0, "http_port": 0, "cluster_secret": SECRET, **changes}
    )


@asynccontextmanager
async def cluster(*workers: FakeWorker, observed_by=None, **changes):
    """A router with these workers listed; yields (service, router stub, inspect stub)."""
    service = RouterService(settings(**changes), observed_by)
    address = await service.start()
    service.set_members([await worker.start() for worker in workers])
    try:
        async with grpc.aio.insecure_channel(str(address)) as channel:
            yield service, rpc.RouterStub(channel), rpc.InspectStub(channel)
    finally:
        await service.stop()
        for worker in workers:
            await worker.kill()


async def until(condition, timeout_s: float = 30.0):
    """Waits for a condition that the loop will make true; fails loudly when it does not."""
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110 - the state belongs to other tasks
            await asyncio.sleep(0.005)


def states(service: RouterService) -> dict[str, str]:
    return {m.spec.worker_id: m.state.value for m in service.runtime.core._state.members}


def all_live(service: RouterService) -> bool:
    return set(states(service).values()) == {"live"}


def request(prompt=PROMPT, n=8, **more) -> pb.GenerateRequest:
    return pb.GenerateRequest(
        token_ids=pack_tokens(prompt),
        sampling=pb.SamplingParams(max_tokens=n, ignore_eos=True),
        **more,
    )


async def collect(call):
    return [message async for message in call]


def assert_whole(messages, prompt, n):
    """Contiguous positions, every token right, one finish, and it is the last message."""
    got: list[int] = []
    for message in messages:
        assert message.position == len(got)
        got += unpack_tokens(message.token_ids).tolist()
    assert got == answer(list(prompt), n)
    assert "".join(m.text for m in messages) == text_of(got)
    assert [m.finish_reason for m in messages[:-1]] == [0] * (len(messages) - 1)
    assert messages[-1].finish_reason == pb.FINISH_REASON_LENGTH
    assert messages[-1].usage.output_tokens == n
    assert len({m.request_id for m in messages}) == 1
