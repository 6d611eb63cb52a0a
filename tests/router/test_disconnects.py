"""Clients that vanish at every stage of a request leave nothing: here, and at the worker.

A router over a real worker (an engine process with a fake model) that runs two requests at once and
computes 16 prompt tokens a step, so that each stage lasts as long as a test wants.
"""

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import grpc

from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import pack_tokens
from radixroute.router.counters import Count
from radixroute.router.service import RouterService
from radixroute.worker.service import WorkerService
from tests.router.clusters import until
from tests.router.real_fleet import SLOW_RUNNER, fleet
from tests.router.relay import relay
from tests.worker.fakes import held_back
from tests.worker.serving import all_blocks_are_free

SEATS = 2
LONG = 500  # tokens of a prompt: 31 steps of prefill
WORKER = {"max_num_seqs": SEATS, "max_num_batched_tokens": 16}
ROUTER = {"client_unread_timeout_s": 0.3}
SOON_S = 5.0  # 300 tokens take 15 s
# A window of a few bytes, so that a client which reads nothing is one at once.
NARROW = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 5))


class House:
    """The router, its worker, and what is left in them."""

    def __init__(self, service: RouterService, worker: WorkerService) -> None:
        self.service, self.worker = service, worker
        self.state = service.runtime.core._state

    @property
    def waiting(self) -> int:
        return len(self.state.waiting)

    @property
    def one(self) -> Any:
        """The one request in the house."""
        (request,) = self.state.requests
        return request

    async def until_nobody_is_in(self) -> None:
        """Long before any request could have ended by itself."""
        doors = self.service.reception
        state = self.state
        await until(
            lambda: (
                not (
                    (len(state.requests) or len(state.waiting) or len(state.admission))
                    or (len(state.loads) or len(state.leases) or doors.n_open)
                    or self.worker.in_flight
                )
            ),
            SOON_S,
        )
        self.service.runtime.core.check()

    async def no_block_is_in_use(self) -> None:
        async with grpc.aio.insecure_channel(str(self.worker.address)) as channel:
            await all_blocks_are_free(rpc.EngineStub(channel))


def ask(router: rpc.RouterStub, prompt: list[int], n: int = 300, **more: Any) -> Any:
    sampling = pb.SamplingParams(max_tokens=n, seed=7, ignore_eos=True)
    return router.Generate(
        pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=sampling, **more)
    )


def small(first: int) -> list[int]:
    return [first, *range(10)]


async def full(router: rpc.RouterStub) -> list[Any]:
    """Every seat is taken."""
    calls = [ask(router, small(40 + seat)) for seat in range(SEATS)]
    for call in calls:
        await call.read()
    return calls


async def queued(house: House, router: rpc.RouterStub) -> list[Any]:
    calls = await full(router)
    late = ask(router, small(50))
    await until(lambda: house.waiting == 1)
    return [*calls, late]


async def queued_at_the_worker(house: House, router: rpc.RouterStub) -> list[Any]:
    """A policy that sends whatever comes fills the worker's own queue."""
    calls = await full(router)
    late = ask(router, small(50), policy="round_robin")
    await until(lambda: house.worker.in_flight == SEATS + 1)
    assert house.waiting == 0
    return [*calls, late]


async def in_prefill(house: House, router: rpc.RouterStub) -> list[Any]:
    call = ask(router, [n % 90 for n in range(LONG)])
    await until(lambda: house.worker.in_flight == 1)
    assert house.one.first_token_ns is None
    return [call]


async def mid_stream(house: House, router: rpc.RouterStub) -> list[Any]:
    call = ask(router, small(50))
    for _ in range(3):
        await call.read()
    return [call]


async def lease_waits(house: House, router: rpc.RouterStub) -> list[Any]:
    calls = await full(router)
    wanted = pb.GenerateRequest(token_ids=pack_tokens(small(50)))
    lease = router.Route(pb.RouteRequest(request=wanted))
    await until(lambda: house.waiting == 1)
    return [*calls, lease]


async def lease_granted(house: House, router: rpc.RouterStub) -> list[Any]:
    """Its client never goes to the worker."""
    wanted = pb.GenerateRequest(token_ids=pack_tokens(small(50)))
    await router.Route(pb.RouteRequest(request=wanted))
    assert len(house.state.loads) == 1
    return []


STAGES = (queued, queued_at_the_worker, in_prefill, mid_stream, lease_waits, lease_granted)
Stage = Callable[[House, rpc.RouterStub], Awaitable[list[Any]]]


@asynccontextmanager
async def house_and_address() -> AsyncIterator[tuple[House, str]]:
    async with fleet("a", runner=SLOW_RUNNER, worker=WORKER, router=ROUTER) as (
        service,
        workers,
        _,
    ):
        yield House(service, workers["a"]), str(service.address)


async def test_clients_that_leave_at_any_stage_leave_nothing():
    async with house_and_address() as (house, address):
        for stage in STAGES:
            async with grpc.aio.insecure_channel(address) as channel:
                with held_back():
                    calls = await stage(house, rpc.RouterStub(channel))
                    for call in calls:
                        call.cancel()
                    await house.until_nobody_is_in()
            await house.no_block_is_in_use()


async def test_connections_that_are_reset_at_any_stage_leave_nothing():
    async with house_and_address() as (house, address):
        for stage in STAGES:
            async with AsyncExitStack() as stack:
                front = await stack.enter_async_context(relay(address))
                channel = await stack.enter_async_context(grpc.aio.insecure_channel(front.address))
                with held_back():
                    await stage(house, rpc.RouterStub(channel))
                    front.reset()
                    await house.until_nobody_is_in()
            await house.no_block_is_in_use()


async def test_a_client_that_never_reads_leaves_nothing():
    async with (
        house_and_address() as (house, address),
        grpc.aio.insecure_channel(address, options=NARROW) as channel,
    ):
        call = ask(rpc.RouterStub(channel), small(50), n=900)
        counters = house.state.counters
        await until(lambda: counters[Count.CLIENTS_UNREAD] == 1)
        await house.until_nobody_is_in()
        await house.no_block_is_in_use()
        call.cancel()
