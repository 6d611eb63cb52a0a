"""Bad wires between a router and one of its workers: streams end whole, and it is found again.

Two real workers (engine processes with a fake model); everything that one of them says and hears,
its event stream too, goes through relays. That worker dies for the router as often as its wire is
bad: its streams go to the other one.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import MemberSpec
from radixroute.router.service import RouterService
from tests.router.clusters import all_live, collect, states, until
from tests.router.real_fleet import SLOW_RUNNER, fleet
from tests.router.relay import Relay, relay
from tests.router.test_real_workers import ask, assert_whole
from tests.worker.fakes import held_back

BAD, GOOD = WorkerId("a"), WorkerId("b")
N, STREAMS = 60, 9  # 3 s while held back
QUICK = {"suspect_after_s": 0.6, "dead_after_s": 1.2, "policy": "round_robin"}
SEED = 11


@asynccontextmanager
async def behind_relays(
    sessions: str,
) -> AsyncIterator[tuple[RouterService, object, list[Relay]]]:
    """The router's members again, the bad one by way of relays: its session, events, replays, and
    whatever else it is asked."""
    async with (
        AsyncExitStack() as wires,
        fleet(BAD, GOOD, runner=SLOW_RUNNER, worker={"kv_memory": 1024 * 32}, router=QUICK) as (
            service,
            workers,
            router,
        ),
    ):
        bad = workers[BAD]
        info = bad._engine_server._info
        places = [info.session_endpoint, info.events_endpoint, info.replay_endpoint]
        if sessions == "grpc":
            places[0], info.session_endpoint = str(bad.address), ""
        relays = [
            await wires.enter_async_context(relay(behind)) for behind in (*places, str(bad.address))
        ]
        if sessions == "frames":
            info.session_endpoint = f"tcp://{relays[0].address}"
        info.events_endpoint = f"tcp://{relays[1].address}"
        info.replay_endpoint = f"tcp://{relays[2].address}"
        good = MemberSpec(GOOD, str(workers[GOOD].address), 3)
        service.set_members([good])
        await until(lambda: set(states(service)) == {GOOD})
        service.set_members(
            [good, MemberSpec(BAD, relays[3 if info.session_endpoint else 0].address, 3)]
        )
        await until(lambda: all_live(service) and _is_believed(service))
        yield service, router, relays
        for worker in workers.values():
            await until(lambda worker=worker: not worker.in_flight)


def _is_believed(service: RouterService) -> bool:
    return all(member.is_fresh for member in service.runtime.core._state.members)


async def resets(wires: list[Relay], rng: random.Random) -> None:
    for _ in range(8):
        rng.choice(wires).reset()
        await asyncio.sleep(rng.uniform(0.05, 0.3))
    wires[0].reset()


async def stalls(wires: list[Relay], _rng: random.Random) -> None:
    for wire in wires:
        wire.stall()
    await asyncio.sleep(2.0)  # longer than it takes until the silent one is given up
    for wire in wires:
        wire.mend()


async def delays(wires: list[Relay], rng: random.Random) -> None:
    for _ in range(10):
        for wire in wires:
            wire.delay_s = rng.uniform(0.0, 0.3)
        await asyncio.sleep(0.2)
    for wire in wires:
        wire.delay_s = 0.0


async def events_alone_are_lost(wires: list[Relay], _rng: random.Random) -> None:
    """Nobody hears from it, though its answers come."""
    for wire in wires[1:3]:
        wire.stall()
    await asyncio.sleep(2.0)
    for wire in wires[1:3]:
        wire.reset()
        wire.mend()


SLOW = (stalls, delays, events_alone_are_lost)
Spoil = Callable[[list[Relay], random.Random], Awaitable[None]]


@pytest.mark.parametrize("sessions", ["frames", pytest.param("grpc", marks=pytest.mark.deep)])
@pytest.mark.parametrize(
    "spoil", [resets, *(pytest.param(one, marks=pytest.mark.deep) for one in SLOW)]
)
async def test_streams_are_whole_and_the_worker_is_found_again(spoil: Spoil, sessions: str):
    print(f"seed {SEED}")
    async with behind_relays(sessions) as (service, router, wires):
        prompts = [[*range(20), n] for n in range(STREAMS)]
        with held_back():
            calls = [asyncio.create_task(collect(ask(router, p, N))) for p in prompts]
            requests = service.runtime.core._state.requests
            await until(lambda: len(requests) == STREAMS and all(r.position for r in requests))
            await spoil(wires, random.Random(SEED))
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, N)
        resumed = service.runtime.core.snapshot().counters["requests_resumed"]
        assert resumed > 0 or spoil in (delays, events_alone_are_lost)
        await until(lambda: all_live(service) and _is_believed(service))
        again = await asyncio.gather(*(collect(ask(router, p, 4)) for p in prompts))
        for prompt, messages in zip(prompts, again, strict=True):
            assert_whole(messages, prompt, 4)
        core = service.runtime.core
        core.check()
        assert len(core._state.requests) == len(core._state.loads) == 0
