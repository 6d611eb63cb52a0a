"""Joining: an engine that lacks something is refused by the flag that it lacks, and mends by it."""

import asyncio
from typing import Any

import pytest

from radixroute.worker.companions.join.findings import JoinRefused
from tests.engines.fake_engine import FakeEngine
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import beside
from tests.worker.fakes import make_tokenizer


async def _join(engine: FakeEngine, **settings: Any) -> Any:
    """What the engine is known as; it joined."""
    url = await engine.start()
    worker = beside(url, **settings)
    try:
        await worker.start()
        return worker.info
    finally:
        await worker.stop()
        await engine.kill()


async def _refused(engine: FakeEngine, **settings: Any) -> JoinRefused:
    with pytest.raises(JoinRefused) as raised:
        await _join(engine, **settings)
    assert raised.value.finding.text in str(raised.value)
    assert "http://127.0.0.1:" in str(raised.value)
    return raised.value


async def test_what_an_engine_says_is_what_its_worker_is():
    info = await _join(FakeVllm(adapters=("X",)), max_num_seqs=8, kv_dtype="bfloat16")
    assert (info.model, info.block_size, info.max_model_len) == ("fake-model", 4, 1024)
    assert (info.kv_blocks_total, info.adapters, info.max_num_seqs) == (256, ("X",), 8)
    assert (info.kind, info.kv_dtype, info.resent_is_prompt) == ("vllm", "bfloat16", True)


@pytest.mark.parametrize(
    ("code", "flag", "lacks", "allowed"),
    [
        ("events", "--kv-events-config", {"has_events": False}, {"allow_no_events": True}),
        ("replay", "replay_endpoint", {"has_replay": False}, {"allow_no_replay": True}),
        ("block_size", "companion.block_size", {"says_block_size": False}, {"block_size": 4}),
        (
            "cached_tokens",
            "--enable-prompt-tokens-details",
            {"has_details": False},
            {"allow_no_cached_tokens": True},
        ),
        (
            "prefix_caching",
            "--enable-prefix-caching",
            {"has_prefix_cache": False},
            {"allow_no_events": True},
        ),
    ],
)
async def test_what_is_missing_is_named_with_its_flag(code, flag, lacks, allowed):
    error = await _refused(FakeVllm(**lacks))
    assert error.finding.code == code
    assert flag in str(error)
    info = await _join(FakeVllm(**lacks), **allowed)
    assert info.block_size == 4


NO_EVENTS = {"allow_no_events": True}


@pytest.mark.parametrize("kind", [FakeVllm, FakeSglang])
async def test_ranks_that_can_be_told_apart_are_those_of_one_worker(kind):
    info = await _join(kind(dp_size=2))
    assert (info.ranks, info.kv_blocks_total, info.is_cache_believed) == (2, 512, False)


@pytest.mark.parametrize(
    ("lacks", "detail"),
    [
        ({"says_ranks": False}, "2 ranks, events of 1"),
        ({"takes_ranks": False}, "a prompt for rank"),
    ],
)
async def test_ranks_that_cannot_be_told_apart_are_refused(lacks, detail):
    error = await _refused(FakeVllm(dp_size=2, **lacks))
    assert error.finding.code == "ranks"
    assert "--data-parallel-size 1" in str(error)
    assert detail in str(error)
    info = await _join(FakeVllm(dp_size=2, **lacks), allow_no_events=True)
    assert info.is_cache_believed
    assert info.ranks == (1 if "takes_ranks" in lacks else 2)


@pytest.mark.parametrize(
    ("code", "flag", "lacks", "allowed"),
    [
        ("events", "--kv-events-config", {"has_events": False}, NO_EVENTS),
        ("replay", "replay_endpoint", {"has_replay": False}, None),
        ("prefix_caching", "--disable-radix-cache", {"has_prefix_cache": False}, NO_EVENTS),
        ("ranks", "--dp-size 1", {"dp_size": 2, "takes_ranks": False}, NO_EVENTS),
        ("page_size", "--page-size 16", {"block_size": 1, "n_blocks": 3000}, NO_EVENTS),
        ("adapters", '"format":"dynamo"', {"adapters": ("X",)}, NO_EVENTS),
    ],
)
async def test_what_an_sglang_lacks_is_named_with_its_own_flag(code, flag, lacks, allowed):
    error = await _refused(FakeSglang(**lacks))
    assert error.finding.code == code
    assert flag in str(error)
    if allowed is not None:
        info = await _join(FakeSglang(**lacks), **allowed)
        assert info.kind == "sglang"
        assert info.is_cache_believed is (code != "prefix_caching")


@pytest.mark.parametrize(
    ("code", "word", "lacks", "allowed"),
    [
        ("prompts", "token ids", {"takes_ids": False}, None),
        (
            "cached_tokens",
            "--enable-cache-report",
            {"has_details": False},
            {"allow_no_cached_tokens": True},
        ),
        ("prefix_caching", "companion.allow_no_events", {"has_prefix_cache": False}, NO_EVENTS),
        (
            "max_model_len",
            "companion.max_model_len",
            {"max_model_len": 0},
            {"max_model_len": 1000},
        ),
    ],
)
async def test_what_a_plain_server_lacks_is_named(code, word, lacks, allowed):
    error = await _refused(FakeOpenAi(**lacks))
    assert error.finding.code == code
    assert word in str(error)
    if allowed is not None:
        info = await _join(FakeOpenAi(**lacks), **allowed)
        assert (info.kind, info.block_size, info.cannot_resume) == ("openai", 16, True)
        assert info.is_cache_believed is (code != "prefix_caching")


@pytest.mark.parametrize(
    ("is_same", "said"),
    [
        (True, {}),
        (True, {"adds": 1}),  # a token that begins each text
        (True, {"has_usage": False, "counts_each": 2}),  # it cannot be asked at all
        (False, {"counts_each": 2}),
        (False, {"adds": 2}),
    ],
)
async def test_where_no_tokens_are_told_they_are_counted(is_same, said):
    if is_same:
        assert (await _join(FakeOpenAi(**said))).kind == "openai"
    else:
        error = await _refused(FakeOpenAi(**said))
        assert error.finding.code == "tokenizer"
        assert "companion.model" in str(error)


async def test_what_it_speaks_is_found_out_or_said():
    for engine, kind in (
        (FakeVllm(), "vllm"),
        (FakeSglang(), "sglang"),
        (FakeSglang(has_new_info=False, says_events=False), "sglang"),
        (FakeOpenAi(), "openai"),
        (FakeOpenAi(owner="vllm"), "vllm"),
    ):
        if kind == "vllm" and isinstance(engine, FakeOpenAi):  # all else of it is behind a proxy
            assert (await _refused(engine)).finding.code == "block_size"
            info = await _join(FakeOpenAi(owner="vllm"), dialect="openai")
            assert info.kind == "openai"
        else:
            assert (await _join(engine)).kind == kind
    assert (await _refused(FakeVllm(), dialect="sglang")).finding.code == "models"


async def test_a_server_that_tells_ids_can_go_on_with_what_others_began():
    info = await _join(FakeOpenAi(returns_ids=True))
    assert (info.cannot_resume, info.is_cache_believed) == (False, True)


@pytest.mark.parametrize("kind", [FakeSglang, FakeOpenAi])
async def test_a_key_of_another_kind_of_engine_is_asked_for(kind, tmp_path):
    assert (await _refused(kind(api_key="abc"))).finding.code == "key"
    key = tmp_path / "key"
    key.write_text("abc\n")
    assert (await _join(kind(api_key="abc"), api_key_file=str(key))).model == "fake-model"


async def test_blocks_of_another_size_than_the_settings_say_are_refused():
    error = await _refused(FakeVllm(), block_size=16)
    assert error.finding.code == "block_size_differs"
    assert "4 there, 16 here" in str(error)


async def test_a_tokenizer_that_differs_is_refused_and_its_text_stays_out_of_the_message():
    error = await _refused(FakeVllm(tokenize_offset=1))
    assert error.finding.code == "tokenizer"
    assert "probe 1" in str(error)
    assert "quick" not in str(error)


async def test_an_engine_that_returns_no_ids_is_refused():
    error = await _refused(FakeVllm(returns_ids=False))
    assert error.finding.code == "token_ids"


async def test_an_engine_with_a_key_takes_it_from_a_file(tmp_path):
    error = await _refused(FakeVllm(api_key="abc"))
    assert error.finding.code == "key"
    key = tmp_path / "key"
    key.write_text("abc\n")
    info = await _join(FakeVllm(api_key="abc"), api_key_file=str(key))
    assert info.block_size == 4


async def test_events_of_another_engine_are_noticed():
    other = FakeVllm()
    await other.start()
    assert other.events is not None
    pub, router = other.events.ports
    places = {"events": f"tcp://127.0.0.1:{pub}", "replay": f"tcp://127.0.0.1:{router}"}
    try:
        error = await _refused(FakeVllm(), **places)
        info = await _join(FakeVllm(), **places, allow_no_events=True)
        assert info.is_cache_believed
    finally:
        await other.kill()
    assert error.finding.code == "events_silent"


async def test_a_replay_endpoint_that_never_answers_is_refused():
    engine = FakeVllm()
    url = await engine.start()
    assert engine.events is not None
    engine.events.answers_replays = False
    worker = beside(url)
    try:
        with pytest.raises(JoinRefused) as raised:
            await worker.start()
    finally:
        await worker.stop()
        await engine.kill()
    assert raised.value.finding.code == "replay_silent"


async def test_a_warm_engine_without_replay_joins_where_that_is_allowed():
    """An SGLang says at its start that its cache is empty: that is missed, and so all is forgotten
    once, the canary as well, which must not stop the join."""
    info = await _join(FakeSglang(has_replay=False), allow_no_replay=True)
    assert info.is_cache_believed is False


async def test_nobody_there_is_said_after_the_time_to_start():
    engine = FakeVllm()
    url = await engine.start()
    await engine.kill()
    with pytest.raises(JoinRefused) as raised:
        await beside(url, start_timeout_s=0.3).start()
    assert raised.value.finding.code == "unreachable"


async def test_an_engine_that_comes_up_late_is_waited_for():
    engine = FakeVllm()
    url = await engine.start()
    ports = engine.ports
    await engine.kill()
    late = FakeVllm()
    worker = beside(url)
    starting = asyncio.create_task(worker.start())
    await asyncio.sleep(0)
    await late.start(ports)
    try:
        await starting
    finally:
        await worker.stop()
        await late.kill()
    assert worker.info is not None
    assert worker.info.model == "fake-model"


async def test_a_folder_that_is_not_here_is_named(tmp_path):
    from radixroute.worker.companions.companion import companion
    from radixroute.worker.companions.settings import CompanionSettings
    from radixroute.worker.service import WorkerService
    from radixroute.worker.settings import WorkerSettings

    engine = FakeVllm()
    url = await engine.start()
    own = make_tokenizer().files()
    for name, data in own.items():
        (tmp_path / name).write_bytes(data)
    plain = WorkerSettings()
    found = CompanionSettings(model=str(tmp_path))
    try:
        with pytest.raises(JoinRefused) as raised:
            await WorkerService(plain, host=companion(CompanionSettings(), url, plain)).start()
        assert raised.value.finding.code == "folder"
        worker = WorkerService(plain, host=companion(found, url, plain))
        await worker.start()
        await worker.stop()
    finally:
        await engine.kill()
