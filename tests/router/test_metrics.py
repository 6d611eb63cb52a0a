"""The router's metrics: what a scrape of a running router shows, and that nothing is left out."""

import asyncio
from collections import Counter
from dataclasses import fields
from typing import Any

import pytest

from radixroute.deploy.actors.router_look import look_at
from radixroute.deploy.cluster.readiness import await_joined
from radixroute.metrics.metric import Kind, check_names
from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.api.metrics.counts import COUNT_ROWS
from radixroute.router.api.metrics.fleet import STREAM_STATES, WORKER_STATES
from radixroute.router.api.metrics.sight import MAX_TENANTS, RouterSight, RouterSights
from radixroute.router.api.metrics.table import ROUTER_METRICS
from radixroute.router.core.snapshot import QueueSnapshot, RouterSnapshot, WorkerSnapshot
from radixroute.router.counters import Count
from radixroute.router.errors import BadSetting
from radixroute.router.service import RouterService
from tests.metrics.scraping import GET, ask, labels, scrape
from tests.router.clusters import PROMPT, all_live, cluster, collect, request, settings, until
from tests.router.fakes import FakeWorker

ASKED = 3


def test_every_count_is_in_exactly_one_row():
    shown = Counter(count for row in COUNT_ROWS for count in row.values)
    assert shown == Counter(Count)


def test_names_are_declared_once():
    check_names(metric.name for metric in ROUTER_METRICS)
    assert len(ROUTER_METRICS) > 50


def test_kinds_of_one_event_have_a_label_each_and_a_lone_count_has_none():
    for row in COUNT_ROWS:
        assert bool(row.label) == (len(row.values) > 1), row.name
        assert len(set(row.values.values())) == len(row.values), row.name


# What a record holds and no metric shows, and why.
NOT_SHOWN = {
    WorkerSnapshot: {
        "address": "text; `radixroute workers` shows it",
        "epoch": "text, another one each life",
        "reason": "text",
        "max_batched_tokens": "a setting of the worker's own, which its page shows",
        "max_num_seqs": "a setting of the worker's own, which its page shows",
        "compat": "text",
        "metrics_address": "text; `radixroute workers --json` shows it",
        "adapters": "text; `radixroute workers` shows them",
    },
    RouterSnapshot: {
        "waiting": "the sum of radixroute_queue_requests",
        "in_flight": "of workers that left it is nothing; the others show their own",
    },
    QueueSnapshot: {"by_tenant": "folded to few names first"},
    RouterSight: {},
}


class _Noted:
    """A record that notes which of its fields are read."""

    def __init__(self, record, read):
        self._record, self._read = record, read

    def __getattr__(self, name):
        self._read[type(self._record)].add(name)
        return self._wrap(getattr(self._record, name))

    def _wrap(self, value):
        if type(value) in NOT_SHOWN:
            return _Noted(value, self._read)
        if isinstance(value, tuple):
            return tuple(map(self._wrap, value))
        return value


async def test_whatever_a_look_takes_is_shown_or_has_a_reason_not_to_be():
    async with cluster(FakeWorker("a")) as (service, _router, _inspect):
        await until(lambda: all_live(service))
        read: dict[type, set[str]] = {kind: set() for kind in NOT_SHOWN}
        sight: Any = _Noted(_sight(service), read)
        for metric in ROUTER_METRICS:
            metric.samples(sight)
    for kind, reasons in NOT_SHOWN.items():
        there = {one.name for one in fields(kind)}
        assert read[kind] | reasons.keys() == there, kind.__name__
        assert read[kind] & reasons.keys() == set(), kind.__name__


async def test_a_scrape_tells_what_happened():
    async with cluster(FakeWorker("a"), FakeWorker("b")) as (service, router, inspect):
        await until(lambda: all_live(service))
        for _ in range(ASKED):
            await collect(router.Generate(request(tenant="blue")))
        seen = await scrape(service.metrics_address.port)
        info = await inspect.RouterInfo(pb.RouterInfoRequest())
        listed = (await inspect.ListWorkers(pb.ListWorkersRequest())).workers
    assert info.metrics_address == str(service.metrics_address)
    assert [one.metrics_address for one in listed] == ["a:9", "b:9"]

    def value(name, **given):
        return seen[f"radixroute_{name}", labels(**given)]

    assert value("requests_accepted_total") == ASKED
    assert value("requests_ended_total", outcome="finished") == ASKED
    assert value("requests_failed_total", reason="queue_full") == 0
    assert value("joins_total", outcome="accepted") == 2
    assert value("admission_requests") == value("requests_open") == 0
    assert value("admission_max_requests") == 4096
    assert value("queue_requests", priority="5") == 0
    for name in ("request", "request_first_token", "request_queue", "request_output_token"):
        assert value(f"{name}_seconds_count", outcome="length") == ASKED
        assert value(f"{name}_seconds_sum", outcome="length") >= 0
    prompt_tokens = [value("worker_prompt_tokens_total", worker=one) for one in "ab"]
    assert sum(prompt_tokens) == ASKED * len(PROMPT)
    assert [value("worker_state", worker=one, state="live") for one in "ab"] == [1, 1]
    assert sum(value("worker_state", worker="a", state=state) for state in WORKER_STATES) == 1
    assert sum(value("worker_stream_state", worker="a", state=s) for s in STREAM_STATES) == 1
    assert value("index_bytes") <= value("index_max_bytes")
    version = [dict(given) for name, given in seen if name == "radixroute_router"]
    assert version[0]["policy"] == "radix"


async def test_every_metric_has_its_name_on_the_page():
    """Also those that have no value yet."""
    async with cluster() as (service, _router, _inspect):
        _, _, page = await ask(service.metrics_address.port, GET)
    for metric in ROUTER_METRICS:
        assert page.count(f"# TYPE {metric.name} {metric.kind}\n") == 1
        assert f"# HELP {metric.name} {metric.help}\n" in page


async def test_who_waits_is_shown_by_band_and_tenants_are_bounded():
    """No worker: everything waits. Tenants are what clients make up."""
    many = MAX_TENANTS + 40
    async with cluster(FakeWorker("a")) as (service, router, _inspect):
        await until(lambda: all_live(service))
        service.set_members([])
        await until(lambda: not list(service.runtime.core._state.members))
        names = [f"t{n}" for n in range(many)]
        calls = [router.Generate(request(tenant=name, priority=2)) for name in names]
        calls.append(router.Generate(request()))
        waiting = [asyncio.ensure_future(collect(call)) for call in calls]
        await until(lambda: service.runtime.core.n_waiting == many + 1)
        seen = await scrape(service.metrics_address.port)
        again = await scrape(service.metrics_address.port)
        for call in calls:
            call.cancel()
        await asyncio.gather(*waiting, return_exceptions=True)
    name = "radixroute_queue_tenant_requests"
    by_tenant = {dict(given)["tenant"]: n for (one, given), n in seen.items() if one == name}
    assert len(by_tenant) == MAX_TENANTS + 1
    assert sum(by_tenant.values()) == many + 1
    assert by_tenant["other"] == 41
    assert {key for key in again if key[0] == name} == {key for key in seen if key[0] == name}
    assert seen["radixroute_queue_requests", labels(priority="2")] == many
    assert seen["radixroute_queue_requests", labels(priority="5")] == 1
    assert seen["radixroute_queue_prompt_tokens", labels()] == (many + 1) * len(PROMPT)
    assert seen["radixroute_queue_policy_requests", labels(policy="radix")] == many + 1
    assert seen["radixroute_admission_requests", labels()] == many + 1


async def test_counters_only_grow():
    async with cluster(FakeWorker("a")) as (service, router, _inspect):
        await until(lambda: all_live(service))
        await collect(router.Generate(request()))
        before = await scrape(service.metrics_address.port)
        await collect(router.Generate(request()))
        after = await scrape(service.metrics_address.port)
    ending = ("_total", "_bucket", "_count")
    grown = {key for key in before if key[0].endswith(ending) and after[key] > before[key]}
    assert not {key for key in before if key[0].endswith(ending) and after[key] < before[key]}
    assert ("radixroute_requests_accepted_total", labels()) in grown
    assert {m.kind for m in ROUTER_METRICS} == set(Kind)


async def test_without_a_port_there_is_no_page():
    async with cluster(metrics_port=None) as (service, _router, inspect):
        assert service.metrics_address is None
        assert (await inspect.RouterInfo(pb.RouterInfoRequest())).metrics_address == ""


async def test_two_routers_with_one_metrics_port_both_start():
    async with cluster(metrics_port=0) as (first, _router, _inspect):
        port = first.metrics_address.port
        async with cluster(metrics_port=port) as (second, _, _):
            assert second.metrics_address.port not in (0, port)
            await scrape(second.metrics_address.port)


async def test_the_page_ends_with_the_router():
    service = RouterService(settings(metrics_port=0))
    await service.start()
    assert service.metrics_address is not None
    port = service.metrics_address.port
    await service.stop()
    with pytest.raises(ConnectionRefusedError):
        await scrape(port)


async def test_whoever_starts_a_cluster_learns_where_its_pages_are():
    async with cluster(FakeWorker("a")) as (service, _router, _inspect):
        await until(lambda: all_live(service))
        told = await_joined(lambda: look_at(service), 1, lambda: False, lambda: None)
        assert told.metrics_url == f"http://{service.metrics_address}/metrics"
        assert told.api_url == f"http://{service.http_address}/v1"


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_metrics_port_that_is_none_is_refused(port):
    with pytest.raises(BadSetting, match="metrics_port"):
        settings(metrics_port=port)


def _sight(service) -> RouterSight:
    return RouterSights(service.runtime, service._settings, lambda: 0, lambda: 0).take()
