"""Client stream: nothing lost between core and client, whoever is slower."""

import asyncio

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.request.sampling import FinishReason
from radixroute.router.api.grpc import client_message
from radixroute.router.api.grpc.client_stream import ClientStream
from radixroute.router.api.grpc.coalescing import WINDOW_S, Coalescing
from radixroute.router.errors import DeadlinePassed, NoWorkers
from radixroute.router.messages.actions import Emit, Failure, Usage
from tests.router.worlds import packed

USAGE = Usage(3, 0, 2, 0, 1, WorkerId("w"), 1.5, 0.5)


def emit(position: int, finish: FinishReason | None = None, usage: Usage | None = None) -> Emit:
    return Emit("r", position, packed(position), str(position), finish, usage)


def read(message: bytes | None) -> pb.GenerateResponse:
    assert message is not None
    return pb.GenerateResponse.FromString(message)


async def test_a_slow_client_gets_fewer_and_larger_messages():
    stream = ClientStream("r")
    for position in range(3):
        stream.put(emit(position, usage=USAGE if position == 0 else None))
    message = read(await stream.take())
    assert (message.position, message.text, message.token_ids) == (0, "012", packed(0, 1, 2))
    assert message.usage.worker_id == "w"
    stream.put(emit(3, FinishReason.STOP))
    last = read(await stream.take())
    assert (last.position, last.finish_reason) == (3, pb.FINISH_REASON_STOP)
    assert await stream.take() is None


async def test_a_waiting_client_is_woken():
    stream = ClientStream("r")
    taking = asyncio.create_task(stream.take())
    await asyncio.sleep(0)
    stream.put(emit(0))
    message = read(await taking)
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


@pytest.mark.parametrize("position", [0, 1, 127, 128, 16383, 16384, 2**31])
@pytest.mark.parametrize("text", ["", "a", "\u20ac" * 50, "x" * 300])
@pytest.mark.parametrize("n_tokens", [0, 1, 31, 32, 5000])
def test_a_message_that_is_written_by_hand_is_what_protobuf_reads(n_tokens, text, position):
    told = pb.GenerateResponse(
        request_id="r" * 32,
        token_ids=packed(*range(n_tokens)),
        text=text,
        position=position,
        index=3,
    )
    head = client_message.head(told.request_id, told.index)
    made = client_message.message(head, told.token_ids, told.text, told.position)
    assert pb.GenerateResponse.FromString(made) == told


class Clock:
    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def loaded(clock: Clock, most: int = 3) -> Coalescing:
    """Its last window had more than it sends one by one."""
    coalescing = Coalescing(clock, messages_a_s=most / WINDOW_S)
    assert not any(coalescing.count() for _ in range(most + 2))
    clock.now_s += WINDOW_S
    assert coalescing.count()
    return coalescing


async def test_under_load_what_is_held_goes_together_and_ends_at_once():
    stream = ClientStream("r", coalescing=loaded(Clock()))
    stream.put(emit(0))
    first = read(await stream.take())
    assert (first.position, first.text) == (0, "0")  # no first token waits
    for position in (1, 2, 3):
        stream.put(emit(position))
        assert stream.poll() is None
    held = read(await asyncio.wait_for(stream.take(), 5))
    assert (held.position, held.text, held.token_ids) == (1, "123", packed(1, 2, 3))
    for position in (4, 5):
        stream.put(emit(position))
    assert stream.poll() is None
    stream.put(emit(6, FinishReason.STOP, USAGE))
    last = read(stream.poll())
    assert (last.position, last.text, last.finish_reason) == (4, "456", pb.FINISH_REASON_STOP)
    assert last.usage.worker_id == "w"
    assert await stream.take() is None


async def test_under_load_a_failure_is_not_held():
    stream = ClientStream("r", coalescing=loaded(Clock()))
    stream.put(emit(0))
    assert stream.poll() is not None
    stream.put(emit(1))
    assert stream.poll() is None
    stream.fail(Failure.DEADLINE)
    assert read(stream.poll()).text == "1"
    with pytest.raises(DeadlinePassed):
        stream.poll()


async def test_few_messages_are_no_load():
    coalescing = Coalescing(Clock(), messages_a_s=100 / WINDOW_S)
    stream = ClientStream("r", coalescing=coalescing)
    for position in range(40):
        stream.put(emit(position))
        assert read(stream.poll()).position == position


async def test_a_window_without_output_ends_the_load():
    clock = Clock()
    coalescing = loaded(clock)
    clock.now_s += 3 * WINDOW_S
    assert not coalescing.count()
