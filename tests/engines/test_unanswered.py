"""Engines that take connections and answer late, nothing, or not that: told from nobody there."""

import asyncio
from dataclasses import replace
from typing import Any

from radixroute.worker.companions.join import examination
from radixroute.worker.companions.join.examination import Examination, examine
from radixroute.worker.companions.join.trying_out import PATIENCE, Patience
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings
from tests.engines.examining import codes_of, examined
from tests.engines.fake_http import FakeHttp, Reply
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_vllm import FakeVllm

SETTINGS = CompanionSettings(start_timeout_s=0.01, connect_timeout_s=0.1)


async def _of(route: Any, patience: Patience) -> Examination:
    http = FakeHttp(route)
    port = await http.start()
    try:
        return await examine(
            SETTINGS, f"http://127.0.0.1:{port}", WorkerSettings(), patience=patience
        )
    finally:
        await http.kill()


async def test_one_that_is_stopped_takes_connections_and_is_not_told_to_be_started():
    async def route(*asked: Any) -> Reply:
        await asyncio.Event().wait()
        raise AssertionError

    seen = await _of(route, replace(PATIENCE, answer_s=0.02, late_s=0.05))
    assert codes_of(seen) == {"stalls"}
    assert seen.findings[0].detail == "/v1/models has no answer in 0.15 s"
    assert "start the engine" not in seen.findings[0].remedy


async def test_one_that_answers_later_than_a_companion_waits_is_told_so():
    async def route(*asked: Any) -> Reply:
        return Reply(200, {"object": "list", "data": []})

    seen = await _of(route, replace(PATIENCE, answer_s=1e-9))
    assert codes_of(seen) == {"late"}
    assert seen.findings[0].detail.startswith("/v1/models after ")


async def test_one_that_is_known_and_whose_health_page_hangs_is_told_by_that_page():
    class Mute(FakeVllm):
        async def _guarded(self, method, path, headers, body):
            if path == "/health":
                await asyncio.Event().wait()
            return await super()._guarded(method, path, headers, body)

    seen = await examined(
        Mute(), patience=replace(PATIENCE, answer_s=0.2, late_s=0.1), connect_timeout_s=0.2
    )
    assert codes_of(seen) == {"stalls"}
    assert seen.findings[0].detail.startswith("/health has no answer")


async def test_a_port_whose_connections_are_closed_at_once_is_nobody():
    """As of a container whose server is not up."""

    async def close(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(close, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    try:
        seen = await examine(SETTINGS, f"http://127.0.0.1:{port}", WorkerSettings())
    finally:
        server.close()
    assert codes_of(seen) == {"unreachable"}


async def test_a_dead_core_behind_a_healthy_page_is_one_finding():
    """Chats have no answer there, which is no second one."""

    class Healthy(FakeVllm):
        def route(self, path, headers, asked, body):
            is_health = path == "/health"
            return Reply(200, b"") if is_health else super().route(path, headers, asked, body)

    seen = await examined(Healthy(core_is_dead=True), patience=Patience(examined_s=5.0))
    assert codes_of(seen) == {"canary"}
    assert "answered 500" in seen.findings[0].detail


async def test_where_even_its_health_takes_long_no_prompt_is_blamed(monkeypatch):
    monkeypatch.setattr(examination, "_SLOW_S", 0.0)
    seen = await examined(FakeOpenAi(is_held=True), patience=Patience(examined_s=0.3))
    assert codes_of(seen) == {"late"}
    assert seen.findings[0].detail.startswith("/v1/models after ")
