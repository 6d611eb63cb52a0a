"""A router's death is a pause: clients go on with their streams at the next router."""

import asyncio

import pytest

from radixroute.answer import Delta
from radixroute.client import AsyncRouterClient, RouterClient
from radixroute.errors import RequestFailed
from radixroute.request.limits import PartialSampling
from radixroute.request.sampling import FinishReason
from radixroute.router.core.requests import ATTEMPTS_A_RESUME
from radixroute.router.service import RouterService
from tests.router.clusters import PROMPT, all_live, settings, until
from tests.router.fakes import FakeWorker, answer, text_of

N = 40


async def started(specs, port=0) -> RouterService:
    service = RouterService(settings(port=port))
    await service.start()
    service.set_members(specs)
    await until(lambda: all_live(service))
    return service


async def read_all(address: str, seen: list[Delta], n: int | None = None, **more) -> None:
    async with AsyncRouterClient(address, timeout_s=60, **more) as client:
        async for delta in client.generate(PROMPT, PartialSampling(max_tokens=N, n=n)):
            seen.append(delta)


async def read_all_blocking(address: str, seen: list[Delta], n: int | None = None) -> None:
    def read() -> None:
        with RouterClient(address, timeout_s=60) as client:
            seen.extend(client.generate(PROMPT, PartialSampling(max_tokens=N, n=n)))

    await asyncio.to_thread(read)


def n_tokens(seen: list[Delta]) -> int:
    return sum(len(delta.token_ids) for delta in seen)


def counters(service: RouterService):
    return service.runtime.core.snapshot().counters


@pytest.mark.parametrize("read", [read_all, read_all_blocking])
async def test_a_stream_goes_on_whole_at_the_next_router(read):
    workers = [FakeWorker(name, step_s=0.01, hold_after=5) for name in "ab"]
    specs = [await worker.start() for worker in workers]
    first = await started(specs)
    seen: list[Delta] = []
    reading = asyncio.create_task(read(str(first.address), seen))
    await until(lambda: n_tokens(seen) == 5)
    await first.stop()
    for worker in workers:
        worker.hold_after = None
    second = await started(specs, first.address.port)
    await reading
    ids = [token for delta in seen for token in delta.token_ids]
    assert ids == answer(PROMPT, N)
    assert "".join(delta.text for delta in seen) == text_of(ids)
    assert len({delta.request_id for delta in seen}) == 1
    assert seen[-1].finish is FinishReason.LENGTH
    usage = seen[-1].usage
    assert usage is not None
    assert (usage.attempts, usage.output_tokens, len(usage.by_attempt)) == (2, N, 2)
    assert usage.ttft_ms == next(one.usage for one in seen if one.usage).ttft_ms
    submits = [submit for worker in workers for submit in worker.seen]
    assert [len(submit.resume.emitted_token_ids) for submit in submits] in ([0, 20], [20, 0])
    assert len({submit.sampling.seed for submit in submits}) == 1
    assert max(submit.attempt for submit in submits) == ATTEMPTS_A_RESUME + 1
    assert counters(second)["streams_resumed_by_clients"] == 1
    second.runtime.core.check()
    await second.stop()
    for worker in workers:
        await worker.kill()


@pytest.mark.parametrize("read", [read_all, read_all_blocking])
async def test_every_one_of_several_answers_goes_on_at_the_next_router(read):
    worker = FakeWorker("a", step_s=0.01, hold_after=5)
    specs = [await worker.start()]
    first = await started(specs)
    seen: list[Delta] = []
    reading = asyncio.create_task(read(str(first.address), seen, 3))
    await until(lambda: n_tokens(seen) == 15)
    await first.stop()
    worker.hold_after = None
    second = await started(specs, first.address.port)
    await reading
    seeds: list[set[int]] = []
    for index in range(3):
        mine = [delta for delta in seen if delta.index == index]
        assert [token for delta in mine for token in delta.token_ids] == answer(PROMPT, N)
        (request_id,) = {delta.request_id for delta in mine}
        seeds.append({one.sampling.seed for one in worker.seen if one.request_id == request_id})
        assert mine[-1].finish is FinishReason.LENGTH
    (base,) = seeds[0]
    assert seeds == [{(base + index) % 2**64} for index in range(3)]
    ends = [delta.usage for delta in seen if delta.finish is not None]
    assert sum(usage.prompt_tokens for usage in ends if usage is not None) == len(PROMPT)
    assert counters(second)["streams_resumed_by_clients"] == 3
    second.runtime.core.check()
    await second.stop()
    await worker.kill()


@pytest.mark.parametrize("make", [AsyncRouterClient, RouterClient])
async def test_a_client_that_knows_its_router_waits_for_the_next_one_with_a_new_request(make):
    worker = FakeWorker("a")
    specs = [await worker.start()]
    first = await started(specs)
    client = make(str(first.address), timeout_s=60)

    async def ask() -> list[Delta]:
        answer = client.generate(PROMPT, PartialSampling(max_tokens=N))
        if make is AsyncRouterClient:
            return [delta async for delta in answer]
        return await asyncio.to_thread(list, answer)

    await ask()
    await first.stop()
    asking = asyncio.create_task(ask())
    await asyncio.wait([asking], timeout=0.3)
    assert not asking.done()
    second = await started(specs, first.address.port)
    assert [token for delta in await asking for token in delta.token_ids] == answer(PROMPT, N)
    closed = client.close()
    if make is AsyncRouterClient:
        await closed
    await second.stop()
    await worker.kill()


async def test_a_client_whose_patience_ends_says_that_it_lost_the_router():
    worker = FakeWorker("a", hold_after=5)
    service = await started([await worker.start()])
    seen: list[Delta] = []
    reading = asyncio.create_task(read_all(str(service.address), seen, lost_router_wait_s=0))
    await until(lambda: n_tokens(seen) == 5)
    await service.stop()
    with pytest.raises(RequestFailed, match="lost the router"):
        await reading
    await worker.kill()
