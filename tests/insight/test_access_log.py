"""One line a request: whole, whatever clients call things, and without their prompts."""

import json
import logging

import pytest

from radixroute.insight.access_log import NAME, AccessLog
from radixroute.insight.insight import observed_by
from radixroute.insight.settings import InsightSettings
from radixroute.request.wire import pack_tokens
from tests.router.clusters import all_live, cluster, collect, request, until
from tests.router.fakes import FakeWorker
from tests.router.worlds import MS, World
from tests.router.worlds import request as asked

CANARY = [61, 67, 71, 73, 79]


def parsed(line: str) -> dict[str, object]:
    """Values by name; raises where a line is none."""
    found = dict[str, object]()
    decoder = json.JSONDecoder()
    while line:
        name, _, line = line.partition("=")
        found[name], end = decoder.raw_decode(line)
        line = line[end:].removeprefix(" ")
    return found


class Logged:
    """A world without I/O, and the lines of its requests."""

    def __init__(self, caplog, *workers: str, **settings) -> None:
        caplog.set_level(logging.INFO, NAME)
        self._caplog = caplog
        self.world = World(*workers, **settings)
        self.log = AccessLog()

    def lines(self) -> list[dict[str, object]]:
        self.log.read(self.world.tape.take(), self.world.now_ns)
        found = [r.getMessage() for r in self._caplog.records if r.name == NAME]
        self._caplog.clear()
        assert all("\n" not in line for line in found)
        return [parsed(line) for line in found]


def test_a_line_has_what_became_of_a_request(caplog):
    logged = Logged(caplog, "a", "b")
    world = logged.world
    world.submit(asked("r", n=2, tenant="acme"))
    assert logged.lines() == []
    world.now_ns = 30 * MS
    for _ in range(2):
        for w in "ab":
            world.step(w)
        world.now_ns += 20 * MS
    (line,) = logged.lines()
    assert line["worker"] in ("a", "b")
    del line["worker"]
    assert line == {
        "request": "r",
        "outcome": "length",
        "tenant": "acme",
        "policy": "radix_at_once",
        "priority": 5,
        "prompt_tokens": 131,
        "decision": "r/1",
        "attempts": 1,
        "cached_tokens": 0,
        "predicted_tokens": 0,
        "output_tokens": 2,
        "queue_ms": 0.0,
        "ttft_ms": 30.0,
        "ms": 50.0,
    }


def test_failures_aborts_and_refusals_have_their_reasons(caplog):
    logged = Logged(caplog, "a", max_in_flight=2)
    world = logged.world
    world.submit(asked("aborted"))
    world.submit(asked("late", deadline_ns=5 * MS))
    world.submit(asked("too many"))
    world.abort("aborted")
    world.pass_time(700_000 * MS, tick_ns=50_000 * MS)
    found = {line["request"]: (line["outcome"], line.get("reason")) for line in logged.lines()}
    assert found["aborted"] == ("abort", None)
    assert found["late"] == ("error", "deadline")
    assert found["too many"] == ("refused", "queue_full")


def test_no_name_breaks_a_line(caplog):
    logged = Logged(caplog, "a")
    logged.world.submit(asked('x"\n y=1\x1b[31m', n=1, tenant="two words\r\n200 OK"))
    logged.world.step("a")
    (line,) = logged.lines()
    assert line["request"] == 'x"\n y=1\x1b[31m'
    assert line["tenant"] == "two words\r\n200 OK"


@pytest.mark.parametrize("is_on", [True, False])
async def test_a_router_writes_lines_where_it_is_told_to_and_no_prompt(caplog, is_on):
    caplog.set_level(logging.DEBUG)
    seen = observed_by(InsightSettings(access_log=is_on))
    async with cluster(FakeWorker("a"), observed_by=seen) as (service, router, _inspect):
        await until(lambda: all_live(service))
        answers = await collect(router.Generate(request(CANARY * 8, 2)))
    lines = [record.getMessage() for record in caplog.records if record.name == NAME]
    assert [parsed(line)["request"] for line in lines] == [answers[0].request_id] * is_on
    for shown in ("61, 67, 71", "61 67 71", repr(pack_tokens(CANARY))[2:-1]):
        assert shown not in caplog.text
