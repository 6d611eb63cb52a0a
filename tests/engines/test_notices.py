"""What an engine joins in spite of: it is said, and nobody is refused."""

import pytest

from radixroute.worker.companions.join import notices
from tests.engines.examining import examined
from tests.engines.fake_engine import FakeEngine
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import beside


async def said_of(engine: FakeEngine, caplog: pytest.LogCaptureFixture) -> str:
    """In the log of a companion that joined."""
    worker = beside(await engine.start())
    try:
        await worker.start()
        return " ".join(one.message for one in caplog.records if "joins, but" in one.message)
    finally:
        await worker.stop()
        await engine.kill()


@pytest.mark.parametrize("kind", [FakeVllm, FakeSglang, FakeOpenAi])
async def test_nothing_is_said_of_a_sound_engine(kind, caplog):
    assert await said_of(kind(), caplog) == ""


@pytest.mark.parametrize(
    "engine",
    [
        lambda: FakeVllm(frees_cancelled=False, dp_size=2),
        lambda: FakeSglang(has_metrics=True, frees_cancelled=False),
    ],
)
async def test_requests_that_run_on_without_their_clients_are_noticed(engine, monkeypatch):
    monkeypatch.setattr(notices, "_FREED_S", 0.3)  # the answer would take two seconds
    (notice,) = (await examined(engine())).notices
    assert notice.code == "cancel"
    assert "goes on running there" in notice.text


async def test_who_shows_no_numbers_or_has_other_work_is_not_judged():
    assert (await examined(FakeSglang(frees_cancelled=False))).notices == ()


async def test_a_join_sends_nothing_but_its_canary():
    engine = FakeVllm()
    worker = beside(await engine.start())
    try:
        await worker.start()
        assert (len(engine.received), engine.chats.bodies, engine.n_aborted) == (2, [], 0)
    finally:
        await worker.stop()
        await engine.kill()


async def test_reasoning_that_is_taken_apart_is_noticed(caplog):
    said = await said_of(FakeSglang(reasoning_parser="qwen3"), caplog)
    assert "separate_reasoning" in said
    assert "qwen3" in said
    engine = FakeVllm()
    engine.chats.takes_apart = True
    (notice,) = (await examined(engine)).notices
    assert (notice.code, "include_reasoning" in notice.text) == ("reasoning", True)
