"""What a companion shows on its worker's page, beside engines that tell and that do not."""

from dataclasses import fields
from typing import Any

from radixroute.metrics.metric import check_names
from radixroute.router.api.metrics.table import ROUTER_METRICS
from radixroute.worker.api.metrics import WORKER_METRICS
from radixroute.worker.companions.measures.metrics import COMPANION_METRICS, CompanionSight
from tests.engines.bodies import WITH_TOOLS
from tests.engines.fleets import fleet
from tests.metrics.scraping import labels, scrape
from tests.router.clusters import collect, until
from tests.router.http.wire import CHATS, ask


async def scraped(made: Any, worker_id: str = "a") -> Any:
    """Values by short name and labels."""
    seen = await scrape(int(made.workers[worker_id].metrics_address.rpartition(":")[2]))

    def value(name: str, **given: str) -> float:
        told: float = seen[f"radixroute_companion_{name}", labels(**given)]
        return told

    return value


def test_no_name_is_another_tables():
    check_names(m.name for table in (COMPANION_METRICS, WORKER_METRICS) for m in table)
    assert not {m.name for m in COMPANION_METRICS} & {m.name for m in ROUTER_METRICS}


async def test_a_scrape_tells_what_went_to_the_engine_and_what_it_tells():
    async with fleet("a", dp_size=2, step_s=0.01) as made:
        prompt = list(range(1, 30))
        await collect(made.ask(prompt, 6))
        await until(made.is_told)
        assert (await ask(made.router, CHATS, WITH_TOOLS)).status == 200
        leaves = made.ask(prompt, 900)
        await leaves.read()
        leaves.cancel()
        engine = made.engines["a"]
        await until(lambda: engine.n_aborted + engine.ranks[1].n_aborted == 1)
        await until(made.is_told)
        value = await scraped(made)
        record: CompanionSight = made.workers["a"]._engine._sight()  # type: ignore[attr-defined]
        read: set[str] = set()
        noted: Any = _Noted(record, read)
        for metric in COMPANION_METRICS:
            metric.samples(noted)
        assert read == {one.name for one in fields(CompanionSight)}
        held = sum(value("held_blocks", rank=str(rank)) for rank in range(2))
        assert held == sum(len(one.cache.held) for one in engine.ranks) > 0
    assert value("attempts_total", end="length") + value("attempts_total", end="stop") == 2
    assert value("attempts_total", end="cancelled") == 1
    assert value("output_tokens_total") >= 6
    assert value("passed_bytes_total") > 100
    assert value("cached_tokens_total") == 0  # the second one ended before it could be told
    assert value("looks_total", outcome="well") >= 1
    assert value("looks_total", outcome="ill") == 0
    assert value("engine_looks_total", found="any") >= 1
    assert value("engine_looks_total", found="crowded") == 0
    assert value("engine_looks_total", found="queued") == 0
    assert value("long_answers_total", pace="at_once") == 0
    assert value("events_total") >= value("event_batches_total") > 0
    assert value("events_dropped_total", reason="malformed") == 0
    assert value("believed_room_blocks", rank="0") == 0
    assert value("engine_running_requests", rank="1") == 0


async def test_a_belief_and_its_corrections_are_told():
    allowed = {"allow_no_events": True}
    async with fleet("a", has_events=False, companion=allowed) as made:
        older, prompt = [*range(40, 90)], [*range(1, 90)]
        for one in (older, prompt, prompt):
            await collect(made.ask(one, 2))
        made.engines["a"].cache.match = lambda tokens, extra: []
        await collect(made.ask(prompt, 2))
        value = await scraped(made)
    assert value("believed_room_blocks", rank="0") >= 64
    assert value("believed_changes_total", change="stored") >= 10
    assert value("believed_changes_total", change="removed") >= 10
    assert value("belief_corrections_total", found="less") == 1
    assert value("cached_tokens_total") == 88


class _Noted:
    """A record that notes which of its fields are read."""

    def __init__(self, record: CompanionSight, read: set[str]) -> None:
        self._record, self._read = record, read

    def __getattr__(self, name: str) -> Any:
        self._read.add(name)
        return getattr(self._record, name)
