"""Client stream: nothing lost between core and client, whoever is slower."""

import asyncio

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.api.grpc.client_stream import ClientStream
from radixroute.router.errors import DeadlinePassed, NoWorkers
from radixroute.router.messages.actions import Emit, Failure, Usage
from tests.router.worlds import packed

USAGE = Usage(3, 0, 2, 0, 1, WorkerId("w"), 1.5, 0.5)


def emit(position: int, finish: FinishReason | None = None, usage: Usage | None = None) -> Emit:
    return Emit("r", position, packed(position), str(position), finish, usage)


async def test_a_slow_client_gets_fewer_and_larger_messages():
    stream = ClientStream("r")
    for position in range(3):
        stream.put(emit(position, usage=USAGE if position == 0 else None))
    message = await stream.take()
    assert message is not None
    assert (message.position, message.text, message.token_ids) == (0, "012", packed(0, 1, 2))
    assert message.usage.worker_id == "w"
    stream.put(emit(3, FinishReason.STOP))
    last = await stream.take()
    assert last is not None
    assert (last.position, last.finish_reason) == (3, pb.FINISH_REASON_STOP)
    assert await stream.take() is None


async def test_a_waiting_client_is_woken():
    stream = ClientStream("r")
    taking = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    stream.put(emit(0))
    message = await taking
    assert message is not None
    assert message.text == "0"


async def test_what_was_emitted_comes_before_the_failure():
    stream = ClientStream("r")
    stream.put(emit(0))
    stream.fail(Failure.DEADLINE)
    assert await stream.take() is not None
    with pytest.raises(DeadlinePassed):
        await stream.take()


async def test_a_failure_wakes_a_waiting_client():
    stream = ClientStream("r")
    taking = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    stream.fail(Failure.NO_WORKERS)
    with pytest.raises(NoWorkers):
        await taking
