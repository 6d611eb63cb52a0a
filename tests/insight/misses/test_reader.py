"""Misses of a real router before fake workers: over real event streams, on its page and by gRPC."""

import grpc
import pytest

from radixroute.insight.errors import BadInsightSetting
from radixroute.insight.insight import observed_by
from radixroute.insight.misses.reader import Misses
from radixroute.insight.settings import InsightSettings
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.ids import WorkerId
from tests.metrics.scraping import scrape
from tests.router.clusters import all_live, cluster, collect, request, until
from tests.router.fakes import FakeWorker

WHOLE = list(range(20, 20 + 64))


@pytest.fixture(autouse=True)
def soon(monkeypatch):
    """Streams on loopback are heard at once."""
    monkeypatch.setattr("radixroute.insight.misses.reader.LOOK_NS", 10_000_000)


def misses_of(service) -> Misses:
    (found,) = (one for one in service._observer._readers if isinstance(one, Misses))
    return found


async def test_every_prompt_token_is_cached_or_has_a_reason():
    seen = observed_by(InsightSettings())
    async with cluster(FakeWorker("a"), FakeWorker("b"), observed_by=seen) as (service, router, _):
        await until(lambda: all_live(service))
        misses = misses_of(service)
        await until(lambda: not misses.attribution._caches.why_unknown(WorkerId("a")))
        for n in range(6):
            await collect(router.Generate(request([*WHOLE, n], 2)))
        await until(lambda: misses.view(1e9).total.requests == 6)
        view = misses.view(1e9)
        total = view.total
        assert total.prompt_tokens == 6 * 65
        assert total.cached_tokens + sum(total.missed.values()) == total.prompt_tokens
        assert {row.name for row in view.by_worker} <= {"a", "b"}
        assert view.unattributed == {}
        async with grpc.aio.insecure_channel(str(service.address)) as channel:
            told = await rpc.InsightStub(channel).Misses(pb.MissesRequest())
        assert dict(told.total.missed) == total.missed
        page = await scrape(service.metrics_address.port)
        name = "radixroute_missed_tokens_total"
        shown = sum(value for (metric, _), value in page.items() if metric == name)
        assert shown == sum(total.missed.values())


async def test_a_router_that_keeps_nothing_says_so():
    seen = observed_by(InsightSettings(misses_bytes=0))
    async with cluster(observed_by=seen) as (service, _router, _):
        channel = grpc.aio.insecure_channel(str(service.address))
        with pytest.raises(grpc.aio.AioRpcError, match="misses_bytes is 0"):
            await rpc.InsightStub(channel).Misses(pb.MissesRequest())
        await channel.close()


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(BadInsightSetting, match="misses_bytes"):
        InsightSettings(misses_bytes=-1)
    with pytest.raises(BadInsightSetting, match="misses_window_s"):
        InsightSettings(misses_window_s=0)
