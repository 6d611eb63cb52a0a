"""Requests as clients wrote them, to SGLang and to plain servers."""

import json
from typing import Any

import pytest

from radixroute.router.counters import Count
from tests.engines.bodies import WITH_TOOLS
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fleets import Fleet, fleet
from tests.router.clusters import until
from tests.router.http.wire import CHATS, COMPLETIONS, ask

PLAIN: dict[str, Any] = {"kind": FakeOpenAi, "companion": {"block_size": 4}}
KINDS: list[dict[str, Any]] = [PLAIN, {"kind": FakeSglang}]
SALTED = {**WITH_TOOLS, "cache_salt": "theirs"}


def reports(made: Fleet) -> tuple[int, int]:
    judged, not_judged = (Count.REPORTS_AUDITED, Count.REPORTS_UNAUDITED)
    return made.counters[judged.value], made.counters[not_judged.value]


@pytest.mark.parametrize("given", KINDS, ids=["openai", "sglang"])
async def test_not_a_byte_of_body_or_answer_is_changed(given):
    async with fleet("a", **given) as made:
        chats = made.engines["a"].chats
        for stream in (False, True):
            body = {**WITH_TOOLS, "stream": stream}
            told = await ask(made.router, CHATS, body)
            assert told.status == 200
            assert chats.bodies[-1] == json.dumps(body).encode()
            assert told.body == bytes(chats.streams[-1].sent)


async def test_an_engine_that_keeps_no_salts_apart_is_sent_none():
    async with fleet("a", **PLAIN, router={"http_client_fields": "cache_salt"}) as made:
        told = await ask(made.router, CHATS, SALTED)
        assert told.status == 400
        assert not made.engines["a"].chats.bodies


async def test_sglang_is_sent_the_salt_of_its_token_path_and_the_adapter():
    allowed = {"http_client_fields": "cache_salt"}
    lora: dict[str, Any] = {"adapters": ("lora-1",), "names_adapters": True}
    async with fleet("a", kind=FakeSglang, router=allowed, **lora) as made:
        engine = made.engines["a"]
        told = await ask(made.router, CHATS, {**SALTED, "model": "lora-1"})
        assert told.status == 200, told.body
        there = json.loads(engine.chats.bodies[0])
        prompt = {"prompt": list(range(1, 20)), "max_tokens": 2, "cache_salt": "theirs"}
        assert (await ask(made.router, COMPLETIONS, prompt)).status == 200
        salt = engine.received[-1]["cache_salt"]
        ours = {"model": "lora-1", "lora_path": "lora-1", "cache_salt": salt}
        assert there == {**WITH_TOOLS, **ours}
        assert "theirs" not in salt


async def test_a_believed_cache_learns_nothing_of_them_and_nobody_is_judged():
    known = {"prompt": list(range(1, 42)), "max_tokens": 2, "structured_outputs": {"regex": "a+"}}
    async with fleet("a", **PLAIN) as made:
        made.engines["a"].chats.takes_ids = True
        companion: Any = made.workers["a"]._engine
        for _ in range(2):
            told = await ask(made.router, COMPLETIONS, known)
            assert told.status == 200
        assert told.headers["x-radixroute-cached-tokens"] == "40"
        await until(lambda: reports(made) == (0, 2))
        assert companion._ranks.caches[0].believed.n_blocks == 0
        plain = {name: known[name] for name in ("prompt", "max_tokens")}
        assert (await ask(made.router, COMPLETIONS, plain)).status == 200
        assert companion._ranks.caches[0].believed.n_blocks >= 10
