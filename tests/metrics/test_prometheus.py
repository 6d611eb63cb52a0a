"""Debian's Prometheus scrapes a router and its workers, and answers what the dashboard asks."""

import asyncio
import json
import os
import shutil
import socket
import urllib.parse
import urllib.request
from collections.abc import Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

from radixroute.insight.insight import observed_by
from radixroute.insight.settings import InsightSettings
from tests.metrics.test_board import EXPRESSIONS
from tests.router.clusters import collect, request
from tests.router.real_fleet import fleet

PROMETHEUS = shutil.which("prometheus")
RANGE = "30s"  # for `$__rate_interval`
SCRAPE_S = 0.25
Series = dict[str, Any]
Ask = Callable[[str], Awaitable[list[Series]]]
_MUST = os.environ.get("CI") == "true" and os.getuid() == 0

pytestmark = [
    pytest.mark.skipif(
        PROMETHEUS is None and not _MUST,
        reason="there is no Prometheus here: apt-get install prometheus",
    ),
    pytest.mark.timeout(180),
]


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@asynccontextmanager
async def prometheus(folder, targets: list[str]):
    """One that scrapes these; yields what asks it: an expression, and its series."""
    assert PROMETHEUS is not None, "CI needs Prometheus: .ci/run installs it"
    config = folder / "prometheus.yml"
    scrape = {"job_name": "radixroute", "static_configs": [{"targets": targets}]}
    times = {"scrape_interval": f"{round(1000 * SCRAPE_S)}ms", "scrape_timeout": "200ms"}
    config.write_text(json.dumps({"global": times, "scrape_configs": [scrape]}))  # JSON is YAML
    port = free_port()
    with (folder / "log").open("w") as log:
        process = await asyncio.create_subprocess_exec(
            PROMETHEUS,
            f"--config.file={config}",
            f"--storage.tsdb.path={folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
            stdout=asyncio.subprocess.DEVNULL,
            stderr=log,
        )

    async def ask(expression: str) -> list[Series]:
        where = f"http://127.0.0.1:{port}/api/v1/query?"
        url = where + urllib.parse.urlencode({"query": expression})
        answer = await asyncio.to_thread(lambda: urllib.request.urlopen(url, timeout=10).read())
        found: list[Series] = json.loads(answer)["data"]["result"]
        return found

    try:
        async with asyncio.timeout(60):
            while True:
                assert process.returncode is None, (folder / "log").read_text()
                try:
                    if len(await ask("up == 1")) == len(targets):
                        break
                except OSError:
                    pass
                await asyncio.sleep(0.1)
        yield ask
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def answered(ask: Ask, expression: str) -> None:
    """Waits until it has a series; fails loudly if it never has."""
    async with asyncio.timeout(60):
        while not await ask(expression):  # noqa: ASYNC110 - another process scrapes
            await asyncio.sleep(0.1)


async def test_prometheus_scrapes_a_fleet_and_answers_the_dashboard(tmp_path):
    seen = observed_by(InsightSettings())
    router = {"metrics_port": 0}
    async with fleet("a", "b", router=router, observed_by=seen) as (service, _workers, stub):
        addresses = [one.metrics_address for one in service.runtime.core.snapshot().workers]
        targets = [str(service.metrics_address), *addresses]
        async with prometheus(tmp_path, targets) as ask:
            for n in range(6):
                await collect(stub.Generate(request([*range(20, 60), n], 4)))
            await answered(ask, "sum(radixroute_requests_ended_total) == 6")
            await answered(ask, "radixroute_engine_tokens_total > 0")
            (total,) = await ask("sum(radixroute_worker_prompt_tokens_total)")
            assert float(total["value"][1]) == 6 * 41
            # Twice scraped: a rate needs two.
            for counter in ("requests_ended_total", "request_first_token_seconds_count"):
                await answered(ask, f"sum(rate(radixroute_{counter}[{RANGE}]))")
            n_answered = 0
            for expression in EXPRESSIONS:  # it refuses what is no PromQL
                n_answered += bool(await ask(expression.replace("$__rate_interval", RANGE)))
            assert n_answered > 0.6 * len(EXPRESSIONS)
