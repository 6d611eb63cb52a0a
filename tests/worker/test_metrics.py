"""The worker's metrics: a scrape of a running worker, over a fake model."""

from dataclasses import fields
from typing import Any

import pytest

from radixroute.metrics.metric import check_names
from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.api.metrics.table import ROUTER_METRICS
from radixroute.worker.api.metrics import WORKER_METRICS, WorkerSight
from radixroute.worker.api.page import WorkerPage
from radixroute.worker.errors import BadSetting
from tests.metrics.scraping import labels, scrape
from tests.worker.serving import PROMPT, collect, session, submit, worker, worker_settings


def test_no_name_is_also_one_of_the_router_s_but_those_that_every_process_has():
    check_names(metric.name for metric in WORKER_METRICS)
    both = {m.name for m in WORKER_METRICS} & {m.name for m in ROUTER_METRICS}
    assert both == {"radixroute_loop_lag_seconds"}


async def test_a_scrape_tells_what_the_engine_did():
    async with worker() as (service, stub, _channel), session(stub) as call:
        told = submit("r")
        told.last_of_session = 1
        await call.write(pb.EngineRequest(submit=told))
        await collect(call, "r")
        info = await stub.GetInfo(pb.GetInfoRequest())
        assert info.metrics_address == service.metrics_address
        seen = await scrape(int(service.metrics_address.rpartition(":")[2]))
        read: set[str] = set()
        noted: Any = _Noted(service._sight(*_parts(service)), read)
        for metric in WORKER_METRICS:
            metric.samples(noted)
        assert read == {one.name for one in fields(WorkerSight)}  # and nothing is taken in vain

    def value(name, **given):
        return seen[f"radixroute_engine_{name}", labels(**given)]

    assert value("step_seconds_count") >= 8
    assert value("step_seconds_sum") > 0
    assert value("tokens_total", kind="prefill") == len(PROMPT)
    assert value("tokens_total", kind="decode") == 7  # the first token is the prompt's
    assert value("requests") == value("queued_tokens") == 0
    assert value("sessions") == value("sessions_told_over_total") == 1
    assert 0 < value("kv_used_blocks") <= value("kv_blocks") == info.kv_blocks_total
    assert value("max_requests") == info.max_num_seqs
    assert value("event_batches_total", outcome="dropped") == 0
    about = next(dict(given) for name, given in seen if name == "radixroute_engine")
    assert (about["worker"], about["model"]) == (info.worker_id, info.model)


class _Noted:
    """A record that notes which of its fields are read."""

    def __init__(self, record, read):
        self._record, self._read = record, read

    def __getattr__(self, name):
        self._read.add(name)
        return getattr(self._record, name)


def _parts(service):
    return service._info, service._sessions, service._publisher


async def test_without_a_port_a_worker_has_no_page():
    page = WorkerPage(worker_settings(metrics_port=None), lambda: True)
    await page.start(lambda: pytest.fail("nobody asked"))
    assert (page.port, page.address) == (None, "")
    await page.stop()


@pytest.mark.parametrize("port", [-1, 65536])
def test_a_metrics_port_that_is_none_is_refused(port):
    with pytest.raises(BadSetting, match="metrics_port"):
        worker_settings(metrics_port=port)
