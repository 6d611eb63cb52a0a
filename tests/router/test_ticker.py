"""Ticker: often while there is something to do, seldom when there is not, at once when it comes."""

import asyncio
import time
from typing import Any

from radixroute.router.ticker import TICK_S, Ticker
from tests.router.clusters import all_live, cluster, request, until
from tests.router.fakes import FakeWorker

S = 10**9


class Runtime:
    """Has nothing to do for `quiet_ns`."""

    def __init__(self, quiet_ns: int) -> None:
        self.quiet_ns = quiet_ns
        self.roused = asyncio.Event()
        self.ticks: list[str] = []
        self.lags_s: list[float] = []

    def tick(self) -> int:
        self.ticks.append("tick")
        return self.quiet_ns

    def lagged(self, lag_s: float) -> None:
        self.lags_s.append(lag_s)


async def nothing() -> None:
    return


def ticker_of(runtime: Any) -> Ticker:
    return Ticker(runtime, lambda: runtime.ticks.append("hand over"), nothing)


async def test_a_router_at_work_is_looked_at_often_and_what_waited_comes_before():
    runtime = Runtime(0)
    ticker = ticker_of(runtime)
    began_s = time.monotonic()
    ticker.start()
    await until(lambda: len(runtime.ticks) >= 6)
    assert time.monotonic() - began_s >= 2 * TICK_S
    assert runtime.ticks[:6] == ["hand over", "tick"] * 3
    assert len(runtime.lags_s) >= 2
    await ticker.stop()


async def test_one_that_rests_is_looked_at_again_when_silence_may_mean_something():
    runtime = Runtime(S // 5)
    ticker = ticker_of(runtime)
    began_s = time.monotonic()
    ticker.start()
    await until(lambda: len(runtime.ticks) >= 4)
    assert 0.2 <= time.monotonic() - began_s < 1.0
    await ticker.stop()


async def test_one_that_rests_is_roused_by_what_comes():
    runtime = Runtime(60 * S)
    ticker = ticker_of(runtime)
    ticker.start()
    await until(lambda: len(runtime.ticks) == 2)
    began_s = time.monotonic()
    runtime.roused.set()
    await until(lambda: len(runtime.ticks) == 4)
    assert time.monotonic() - began_s < 1.0
    assert not runtime.lags_s  # it was not late: it was called sooner
    await ticker.stop()


async def test_an_idle_router_rests_and_a_request_rouses_it():
    async with cluster(FakeWorker("a")) as (service, stub, _):
        await until(lambda: all_live(service))
        runtime = service.runtime
        await until(lambda: not runtime.roused.is_set())
        assert runtime.tick() > 0
        stream = stub.Generate(request(n=1))
        await until(runtime.roused.is_set)
        assert [message async for message in stream]
