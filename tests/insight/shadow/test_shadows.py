"""Shadows beside a real router: fed over real sockets, lost and begun anew, shown on its page."""

import asyncio
import os
import signal
from contextlib import asynccontextmanager

import grpc
import pytest

from radixroute.insight.errors import BadInsightSetting
from radixroute.insight.insight import observed_by
from radixroute.insight.settings import InsightSettings
from radixroute.insight.shadow.shadows import Shadows
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from tests.metrics.scraping import scrape
from tests.router.clusters import all_live, cluster, collect, request, until
from tests.router.fakes import FakeWorker

pytestmark = pytest.mark.usefixtures("soon")


@pytest.fixture
def soon(monkeypatch):
    """Nothing is waited for that a real fleet needs time for."""
    for name, ns in (("SETTLE_NS", 50_000_000), ("SEND_NS", 20_000_000)):
        monkeypatch.setattr(f"radixroute.insight.shadow.shadows.{name}", ns)


@asynccontextmanager
async def shadowed(*workers: FakeWorker, **insight):
    """A router with a shadow beside its own; yields (service, router stub, shadows)."""
    settings = InsightSettings(shadows=("round_robin",), **insight)
    async with cluster(*workers, observed_by=observed_by(settings)) as (service, router, _):
        await until(lambda: all_live(service))
        (shadows,) = (r for r in service._observer._readers if isinstance(r, Shadows))
        await until(lambda: shadows._process is not None)
        yield service, router, shadows


async def answered(router, n, first=0):
    prompts = [list(range(20, 60 + (first + k) % 7)) for k in range(n)]
    return [await collect(router.Generate(request(prompt, 4))) for prompt in prompts]


async def test_every_request_that_was_answered_is_asked_of_each_shadow():
    async with shadowed(FakeWorker("a"), FakeWorker("b")) as (service, router, shadows):
        answers = await answered(router, 12)
        await until(lambda: shadows.seen().figures and shadows.seen().figures[1].requests == 12)
        seen = shadows.seen()
        real, own, other = seen.figures
        assert (real.policy, own.policy, other.policy) == ("radix", "radix", "round_robin")
        assert (real.requests, own.requests, other.requests) == (12, 12, 12)
        assert other.flips > 0
        assert [state.error for state in seen.states] == ["", ""]
        request_id = answers[0][0].request_id
        would = shadows.would_have(request_id)
        assert [one.policy for one in would] == ["radix", "round_robin"]
        assert all(one.worker_id in ("a", "b") and one.ttft_ms > 0 for one in would)
        page = await scrape(service.metrics_address.port)
        key = ("radixroute_shadow_requests", frozenset({("policy", "round_robin")}))
        assert page[key] == 12


async def test_a_process_that_is_lost_is_started_anew_and_the_router_goes_on():
    async with shadowed(FakeWorker("a"), FakeWorker("b")) as (_service, router, shadows):
        await answered(router, 3)
        await until(lambda: shadows.seen().figures and shadows.seen().figures[1].requests == 3)
        os.kill(shadows._process.pid, signal.SIGKILL)
        await until(lambda: shadows.seen().restarts == 1 and shadows._process is not None)
        await answered(router, 4, first=3)
        await until(lambda: shadows.seen().figures[1].requests == 4)


async def test_a_worker_that_joins_later_makes_another_fleet():
    later = FakeWorker("c")
    async with shadowed(FakeWorker("a"), FakeWorker("b")) as (service, router, shadows):
        await answered(router, 3)
        members = [m.spec for m in service.runtime.core._state.members]
        service.set_members([*members, await later.start()])
        await until(lambda: shadows.seen().restarts == 1)
        assert shadows._workers == ("a", "b", "c")
        await later.kill()


async def test_a_process_that_stands_still_holds_nothing_up(monkeypatch):
    monkeypatch.setattr("radixroute.insight.shadow.process.MAX_ON_THE_WAY", 1)
    async with shadowed(FakeWorker("a")) as (_service, router, shadows):
        await answered(router, 2)
        await until(lambda: shadows.seen().figures and shadows.seen().figures[1].requests == 2)
        pid = shadows._process.pid
        os.kill(pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(60):
                while not shadows.seen().batches_lost:
                    await answered(router, 40)
        finally:
            os.kill(pid, signal.SIGCONT)


async def test_shadows_are_told_over_grpc_and_where_there_are_none_what_to_do():
    async with shadowed(FakeWorker("a")) as (service, router, shadows):
        answers = await answered(router, 2)
        await until(lambda: shadows.seen().figures and shadows.seen().figures[1].requests == 2)
        async with grpc.aio.insecure_channel(str(service.address)) as channel:
            ask = pb.ShadowsRequest(request_id=answers[0][0].request_id)
            told = await rpc.InsightStub(channel).Shadows(ask)
        assert [one.requests for one in told.figures] == [2, 2, 2]
        assert [one.policy for one in told.choices] == ["radix", "round_robin"]
    plain = observed_by(InsightSettings())
    async with cluster(observed_by=plain) as (service, _router, _):  # noqa: SIM117 - one needs the other
        async with grpc.aio.insecure_channel(str(service.address)) as channel:
            with pytest.raises(grpc.aio.AioRpcError, match=r"insight\.shadows"):
                await rpc.InsightStub(channel).Shadows(pb.ShadowsRequest())


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(BadInsightSetting, match=r"shadows has .best.: unknown policy"):
        InsightSettings(shadows=("best",))
    with pytest.raises(BadInsightSetting, match="shadow_lag_s"):
        InsightSettings(shadow_lag_s=0)
