"""Examination: all that a join would be refused for, without joining."""

import asyncio
import itertools
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from radixroute.worker.companions.join.examination import Asks, examine
from radixroute.worker.companions.join.findings import CODES, finding, finding_in
from radixroute.worker.companions.join.trying_out import PATIENCE, Patience
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings
from tests.engines.examining import ALONE, UNANSWERED, UNHEARD, codes_of, examined
from tests.engines.fake_engine import FakeEngine
from tests.engines.fake_http import FakeHttp, Reply
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.worker.fakes import make_tokenizer
from tests.worker.serving import until


async def test_a_sound_engine_has_nothing_and_is_left_as_it_was():
    engine = FakeVllm(adapters=("X",))
    seen = await examined(engine)
    assert seen.findings == ()
    assert seen.was_tried
    assert seen.statement is not None
    assert seen.statement.block_size == 4
    assert seen.kept_batches is None
    assert engine.in_flight == 0
    assert seen.notices == ()
    # Twice the same, twice with salts, one that is cancelled, two probes, four that are timed,
    # and a chat.
    assert (len(engine.received), len(engine.chats.bodies), engine.n_aborted) == (11, 1, 1)


async def test_one_that_is_only_asked_computes_nothing():
    engine = FakeVllm(has_replay=False)
    seen = await examined(engine, asks=Asks.NOTHING)
    assert codes_of(seen) == {"replay"}
    assert engine.received == []


def _patience(codes: set[str]) -> Patience:
    """None with what these say will never come."""
    if "prefix_caching" in codes:
        return UNHEARD
    return UNANSWERED if "replay" in codes else PATIENCE


@pytest.mark.parametrize(
    ("codes", "lacks"),
    [
        ({"events"}, {"has_events": False}),
        ({"replay"}, {"has_replay": False}),
        ({"block_size"}, {"says_block_size": False}),
        ({"cached_tokens"}, {"has_details": False}),
        ({"prefix_caching"}, {"has_prefix_cache": False}),
        ({"tokenizer"}, {"tokenize_offset": 1}),
        ({"token_ids"}, {"returns_ids": False}),
        ({"salt"}, {"keeps_salts": False}),
        ({"key"}, {"api_key": "abc"}),
        ({"canary"}, {"is_storming": True}),
        ({"ill"}, {"core_is_dead": True}),
        ({"events", "cached_tokens", "tokenizer"}, {"has_events": False, "has_details": False,
                                                    "tokenize_offset": 1}),
        ({"replay", "cached_tokens"}, {"has_replay": False,
                                                          "has_details": False}),
    ],
)  # fmt: skip
async def test_all_that_is_missing_is_named(codes, lacks):
    found = codes_of(await examined(FakeVllm(**lacks), patience=_patience(codes)))
    # Who gives no answer tells nothing else, either.
    assert found - ({"cached_tokens"} if codes == {"canary"} else set()) == codes


@pytest.mark.parametrize(
    ("codes", "flag", "lacks"),
    [
        (set(), "", {}),
        (set(), "", {"knows_salts": False}),  # then salts are refused by name
        ({"events"}, '"publisher":"zmq"', {"has_events": False}),
        ({"replay"}, "replay_endpoint", {"has_replay": False}),
        ({"prefix_caching"}, "--disable-radix-cache", {"has_prefix_cache": False}),
        ({"tokenizer"}, "--tokenizer-path", {"tokenize_offset": 1}),
        ({"ranks"}, "--dp-size 1", {"dp_size": 2, "takes_ranks": False}),
        ({"adapters", "replay"}, "dynamo", {"adapters": ("X",), "has_replay": False}),
    ],
)
async def test_what_an_sglang_lacks_is_named_with_its_own_flags(codes, flag, lacks):
    seen = await examined(FakeSglang(**lacks), patience=_patience(codes))
    assert codes_of(seen) == codes
    assert flag in "".join(one.remedy for one in seen.findings)
    assert seen.was_tried
    assert not seen.is_believed


@pytest.mark.parametrize(
    ("codes", "lacks"),
    [
        (set(), {}),
        ({"prompts"}, {"takes_ids": False}),
        ({"cached_tokens"}, {"has_details": False}),
        ({"prefix_caching"}, {"has_prefix_cache": False}),
        ({"max_model_len"}, {"max_model_len": 0}),
        ({"tokenizer"}, {"counts_each": 2}),
    ],
)
async def test_a_plain_server_is_believed_and_misses_no_events(codes, lacks):
    seen = await examined(FakeOpenAi(**lacks))
    assert codes_of(seen) == codes
    assert seen.is_believed is (codes != {"prefix_caching"})
    assert seen.statement is not None
    assert seen.statement.kind == "openai"
    assert not {"events", "replay", "events_silent", "salt"} & codes_of(seen)


async def test_a_plain_server_that_is_only_asked_is_believed():
    engine = FakeOpenAi()
    seen = await examined(engine, asks=Asks.NOTHING)
    assert (seen.findings, seen.is_believed, engine.received) == ((), True, [])


async def test_a_vllm_too_old_to_say_where_its_events_are_is_told_so():
    engine = FakeVllm(says_places=False)
    url = await engine.start()
    _, pub, router = engine.ports
    settings = CompanionSettings(start_timeout_s=0.1)
    places: dict[str, Any] = {
        "events": f"tcp://127.0.0.1:{pub}",
        "replay": f"tcp://127.0.0.1:{router}",
    }
    try:
        seen = await examine(settings, url, WorkerSettings(), asks=Asks.NOTHING)
        told = await examine(
            replace(settings, **places), url, WorkerSettings(), tokenizer=make_tokenizer()
        )
    finally:
        await engine.kill()
    assert codes_of(seen) == {"events"}
    assert "give companion.events" in seen.findings[0].remedy
    assert codes_of(told) == set()


async def test_one_that_may_do_without_events_is_believed():
    seen = await examined(FakeVllm(has_events=False), allow_no_events=True)
    assert (seen.findings, seen.is_believed) == ((), True)
    assert (await examined(FakeVllm())).is_believed is False


@pytest.mark.parametrize("kind", ["", "vllm", "sglang", "openai"])
@pytest.mark.parametrize("code", CODES)
def test_what_a_refusal_says_is_found_in_its_text(code, kind):
    for detail in ("", "2 ranks"):
        one = finding(code, detail, kind=kind)
        assert finding_in(f"engine http://x:1: {one.text}") == one


async def test_events_of_another_engine_and_replays_that_are_not_answered():
    other = FakeVllm()
    await other.start()
    assert other.events is not None
    pub, router = other.events.ports
    places: dict[str, Any] = {
        "events": f"tcp://127.0.0.1:{pub}",
        "replay": f"tcp://127.0.0.1:{router}",
    }
    try:
        assert codes_of(await examined(FakeVllm(), patience=UNHEARD, **places)) == {"events_silent"}
    finally:
        await other.kill()


async def _detail(
    code: str, engine: FakeEngine, patience: Patience = PATIENCE, **settings: Any
) -> str:
    seen = await examined(engine, patience=patience, **settings)
    assert codes_of(seen) - {"cached_tokens"} == {code}
    return next(f"{one.text}" for one in seen.findings if one.code == code)


async def test_what_it_answered_is_said(tmp_path):
    (tmp_path / "key").write_text("wrong\n")
    key = str(tmp_path / "key")
    assert "the engine answered 503" in await _detail("canary", FakeVllm(is_storming=True))
    assert "/health answers 503" in await _detail("ill", FakeVllm(core_is_dead=True))
    text = await _detail("key", FakeVllm(api_key="right"), api_key_file=key)
    assert "refuses the key" in text
    assert key in text
    assert "refuses" not in await _detail("key", FakeVllm(api_key="right"))


async def test_no_cache_is_not_mended_by_doing_without_its_events():
    assert "allow_no_events" not in await _detail(
        "prefix_caching", FakeVllm(has_prefix_cache=False), UNHEARD
    )


async def test_tls_that_is_not_spoken_is_told_from_nobody():
    engine = FakeVllm()
    url = await engine.start()
    secure = url.replace("http://", "https://")
    settings = CompanionSettings(start_timeout_s=0.1, connect_timeout_s=0.3)
    try:
        assert codes_of(await examine(settings, secure, WorkerSettings())) == {"no_tls"}
    finally:
        await engine.kill()
    assert codes_of(await examine(settings, secure, WorkerSettings())) == {"unreachable"}


class _Connecting(FakeVllm):
    """As a vLLM whose endpoint is the address of a host: its publisher connects."""

    bound = "tcp://127.0.0.1:9"

    def _sources(self):
        return {"0": {**super()._sources()["0"], "endpoint": self.bound}}


@pytest.mark.parametrize("bound", ["tcp://127.0.0.1:9", "tcp://0.0.0.0:9", "tcp://engine:9"])
async def test_an_endpoint_that_the_engine_connects_to_is_named_with_one_that_it_binds(bound):
    engine = _Connecting()
    engine.bound = bound
    seen = await examined(engine, patience=ALONE)
    assert codes_of(seen) == {"events_connect"}
    assert f'{bound}; write "tcp://*:9"' in seen.findings[0].text
    assert codes_of(await examined(engine, asks=Asks.NOTHING)) == {"events_connect"}


async def test_replays_that_nobody_answers_are_told_from_those_that_are_not_set():
    class Silent(FakeVllm):
        def _sources(self):
            return {"0": {**super()._sources()["0"], "replay_endpoint": "tcp://127.0.0.1:9"}}

    assert "tcp://127.0.0.1:9" in await _detail("replay_silent", Silent(), UNANSWERED)
    assert '"replay_endpoint"' in await _detail("replay", FakeVllm(has_replay=False), UNANSWERED)


async def test_settings_that_point_nowhere_are_named():
    nowhere = "tcp://127.0.0.1:9"
    asked = await examined(FakeVllm(), asks=Asks.NOTHING, events=nowhere)
    assert codes_of(asked) == {"replay"}
    assert "without companion.replay" in asked.findings[0].text
    seen = await examined(FakeVllm(), patience=ALONE, events=nowhere, replay=nowhere)
    texts = {one.code: one.text for one in seen.findings}
    assert set(texts) == {"replay_silent", "events_silent"}
    assert "mend companion.replay" in texts["replay_silent"]
    assert "mend companion.events" in texts["events_silent"]
    assert all(nowhere in text for text in texts.values())


async def test_one_that_is_well_and_makes_no_step_is_given_up_in_time():
    engine = FakeVllm(is_held=True)
    url = await engine.start()
    try:
        seen = await examine(
            CompanionSettings(start_timeout_s=0.1),
            url,
            WorkerSettings(),
            tokenizer=make_tokenizer(),
            patience=Patience(examined_s=0.3),
        )
        await until(lambda: not engine.in_flight)  # what was given up is aborted there
    finally:
        await engine.kill()
    assert codes_of(seen) == {"hangs"}
    assert "not in 0.3 s; no step is made" in seen.findings[0].detail


async def test_several_engines_behind_one_url_are_told_and_not_tried():
    one, other = FakeVllm(), FakeVllm(has_prefix_cache=False)
    urls = [await engine.start() for engine in (one, other)]
    assert one.started_s != other.started_s
    ports = itertools.cycle(int(url.rpartition(":")[2]) for url in urls)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Each connection to the next engine."""
        there, back = await asyncio.open_connection("127.0.0.1", next(ports))

        async def copy(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                while data := await source.read(65536):
                    sink.write(data)
            sink.close()

        await asyncio.gather(copy(reader, back), copy(there, writer))

    balancer = await asyncio.start_server(forward, "127.0.0.1", 0)
    port = balancer.sockets[0].getsockname()[1]
    try:
        seen = await examine(
            CompanionSettings(start_timeout_s=0.1),
            f"http://127.0.0.1:{port}",
            WorkerSettings(),
            tokenizer=make_tokenizer(),
        )
    finally:
        balancer.close()
        for engine in (one, other):
            await engine.kill()
    assert set(seen.lives) == {one.started_s, other.started_s}
    assert codes_of(seen) == set()
    assert not one.received
    assert not other.received


async def test_when_it_began_and_what_it_has_done_is_seen():
    engine = FakeVllm()
    seen = await examined(engine)
    assert seen.lives == (engine.started_s,)
    assert seen.steps == engine.n_steps > 0


async def test_nobody_there_is_unreachable():
    engine = FakeVllm()
    url = await engine.start()
    await engine.kill()
    seen = await examine(CompanionSettings(start_timeout_s=0.1), url, WorkerSettings())
    assert codes_of(seen) == {"unreachable"}
    assert seen.statement is None


async def test_a_folder_that_is_not_here_is_named_beside_the_rest():
    engine = FakeVllm(has_replay=False)
    url = await engine.start()
    try:
        seen = await examine(CompanionSettings(start_timeout_s=0.1), url, WorkerSettings())
    finally:
        await engine.kill()
    assert codes_of(seen) == {"folder", "replay"}


async def test_how_far_a_replay_goes_back_is_counted():
    engine = FakeVllm(buffer_steps=3)
    url = await engine.start()
    assert engine.events is not None
    for _ in range(9):
        engine.events.publish([])
    try:
        seen = await examine(
            CompanionSettings(start_timeout_s=0.1),
            url,
            WorkerSettings(),
            tokenizer=make_tokenizer(),
        )
    finally:
        await engine.kill()
    assert seen.findings == ()
    assert seen.kept_batches is not None
    assert 3 <= seen.kept_batches < 9


async def test_a_key_file_that_is_not_there_is_a_missing_key(tmp_path):
    seen = await examined(FakeVllm(api_key="x"), api_key_file=str(tmp_path / "none"))
    assert codes_of(seen) == {"key"}


async def test_a_server_of_another_kind_is_no_engine():
    async def route(method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        return Reply(404, b"")

    http = FakeHttp(route)
    port = await http.start()
    try:
        settings = CompanionSettings(start_timeout_s=0.1)
        seen = await examine(settings, f"http://127.0.0.1:{port}", WorkerSettings())
    finally:
        await http.kill()
    assert codes_of(seen) == {"models"}
    assert "404" in seen.findings[0].detail
    assert "no engine that is known" in seen.findings[0].problem
