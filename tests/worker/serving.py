"""A whole worker over a fake model for tests: start it, open sessions, read answers."""

import asyncio
from contextlib import asynccontextmanager

import grpc

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import pack_tokens, sampling_to_proto, unpack_tokens
from radixroute.worker.service import WorkerService
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import FAKE_RUNNER, make_tokenizer

SLOW_RUNNER = "tests.worker.fakes:slow_runner"
PROMPT = list(range(1, 41))
TOKENIZER = make_tokenizer()


def worker_settings(**changes):
    return WorkerSettings(**{"block_size": 4, "kv_memory": 256 * 32, "incarnation": 5, **changes})


@asynccontextmanager
async def worker(runner=FAKE_RUNNER, **changes):
    service = WorkerService(worker_settings(**changes), runner=runner, tokenizer=TOKENIZER)
    address = await service.start()
    try:
        async with grpc.aio.insecure_channel(str(address)) as channel:
            yield service, rpc.EngineStub(channel), channel
    finally:
        await service.stop()


def submit(
    request_id, prompt=PROMPT, attempt=1, emitted=(), text_len=0, seq=1, *, scope=None, **sampling
):
    complete = SamplingParams(**{"max_tokens": 8, "ignore_eos": True, **sampling})
    resume = pb.ResumeState(emitted_token_ids=pack_tokens(emitted), emitted_text_len=text_len)
    return pb.SubmitRequest(
        request_id=request_id,
        attempt=attempt,
        dispatch_seq=seq,
        prompt_token_ids=pack_tokens(prompt),
        sampling=sampling_to_proto(complete),
        resume=resume if len(emitted) else None,
        scope=scope,
    )


@asynccontextmanager
async def session(stub, router_id="r"):
    call = stub.Session()
    await call.write(
        pb.EngineRequest(open=pb.OpenSession(router_id=router_id, api_version=API_VERSION))
    )
    first = await call.read()
    assert first.opened
    try:
        yield call
    finally:
        call.cancel()


async def collect(call, *names):
    """Deltas by request id until each of them ended."""
    deltas: dict[str, list[pb.TokenDelta]] = {name: [] for name in names}
    open_names = set(names)
    while open_names:
        message = await asyncio.wait_for(call.read(), 30)
        assert message is not grpc.aio.EOF, f"session ended: {await call.details()}"
        assert len({(d.request_id, d.attempt) for d in message.deltas}) == len(message.deltas)
        for delta in message.deltas:
            deltas[delta.request_id].append(delta)
            if delta.finish_reason:
                open_names.discard(delta.request_id)
    return deltas


async def read_to_end(call):
    while await call.read() is not grpc.aio.EOF:
        pass


async def all_blocks_are_free(stub, n_tokens=1020):
    """`n_tokens` need the whole pool: they would wait for ever if one block were still pinned."""
    async with session(stub) as call:
        whole = submit("whole", [1] * n_tokens, max_tokens=4)
        await call.write(pb.EngineRequest(submit=whole))
        deltas = await collect(call, "whole")
        assert deltas["whole"][-1].finish_reason == pb.FINISH_REASON_LENGTH


def ids(deltas):
    return [token for delta in deltas for token in unpack_tokens(delta.token_ids).tolist()]


def text(deltas):
    return "".join(delta.text for delta in deltas)


async def until(condition, timeout_s=30.0):
    # The worker tells nobody but its own callers: polling is all that is left.
    async with asyncio.timeout(timeout_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.01)
