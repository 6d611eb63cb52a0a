"""Several data-parallel ranks behind one URL: each has a cache of its own, and requests find it."""

import asyncio
import random
from types import SimpleNamespace
from typing import Any

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.radix.keys.scope import Scope
from radixroute.worker.companions.calls import Calls
from radixroute.worker.companions.dialects.dialect import EngineNumbers, RankNumbers
from radixroute.worker.companions.ranks import Ranks
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import assert_whole, fleet
from tests.engines.test_calls import request
from tests.router.clusters import collect, until

SEED = 20261129


@pytest.mark.parametrize("kind", [FakeVllm, FakeSglang])
async def test_a_prompt_goes_where_its_rank_has_it_and_hits_are_as_predicted(kind):
    print("seed", SEED)
    rng = random.Random(SEED)
    async with fleet("a", kind=kind, dp_size=2) as made:
        ranks = made.engines["a"].ranks
        await until(made.is_followed)
        trunks = [[rng.randrange(1, 90) for _ in range(48)] for _ in range(4)]
        for turn in range(3):
            prompts = [[*trunk, *range(1, turn * 4 + 2)] for trunk in trunks]
            for prompt in prompts if turn == 0 else ():
                assert_whole(await collect(made.ask(prompt, 6)), prompt, 6)
                await until(made.is_told)
            streams = await asyncio.gather(*(collect(made.ask(p, 6)) for p in prompts))
            for prompt, messages in zip(prompts, streams, strict=True):
                assert_whole(messages, prompt, 6)
            await until(made.is_told)
        asked = [sum(body["stream"] and _n(body) > 40 for body in r.received) for r in ranks]
        assert asked == [8, 8]  # two prompts each
        hits = made.state.hits.of(WorkerId("a"))
        told = sum(sum(one.cached_told[-8:]) for one in ranks)
        assert hits.predicted_tokens == hits.cached_tokens == told > 0.7 * hits.prompt_tokens
        audit = made.state.audit
        await until(lambda: sum(counts(audit.of(WorkerId("a")))) == 16)
        assert counts(audit.of(WorkerId("a"))) == (16, 0)
        assert audit.of(WorkerId("a")).differing == 0


async def test_a_dead_server_takes_all_its_ranks_along_and_no_token():
    async with fleet("a", "b", dp_size=2, step_s=0.02) as made:
        await until(made.is_followed)
        prompts = [[*range(1, 30), n] for n in range(1, 9)]
        calls = [asyncio.create_task(collect(made.ask(p, 40))) for p in prompts]
        requests = made.state.requests
        await until(lambda: len(requests) == 8 and all(r.position >= 3 for r in requests))
        await made.engines["b"].kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 40)


def counts(record: Any) -> tuple[int, int]:
    return record.judged, record.unjudged


def _n(body: dict[str, Any]) -> int:
    """Tokens of a prompt."""
    return len(body.get("prompt") or body["input_ids"])


def a_choice(held: list[int], told: EngineNumbers, calls: Any = ()) -> tuple[int, int]:
    """Of ranks that hold so many tokens of the prompt."""
    joined: Any = SimpleNamespace(
        scope=Scope("m", block_size=4, kv_dtype=""), ranks=tuple(range(len(held))), places=(),
        info=SimpleNamespace(kv_blocks_total=0),
    )  # fmt: skip
    listener: Any = None
    ranks = Ranks(joined, listener, listener)
    for cache, n in zip(ranks.caches, held, strict=True):
        mirror: Any = SimpleNamespace(cached_tokens=lambda *_, n=n: n, n_blocks=n // 4)
        cache.mirror = mirror
    return ranks.choose(request(n_prompt=80), calls, told)


def test_the_rank_with_most_of_it_is_asked_unless_it_has_more_to_do():
    idle = EngineNumbers()
    assert a_choice([0, 64], idle) == (1, 64)
    assert a_choice([0, 0, 0], idle) == (0, 0)
    assert a_choice([8, 0, 8], idle) == (0, 8)
    calls = Calls(4)
    calls.begin(request(1, n_prompt=60), uncached_tokens=60, now_ns=0, rank=1)
    assert a_choice([0, 64], idle, calls) == (0, 0)  # it waits for a prompt that is longer
    told = EngineNumbers((RankNumbers(), RankNumbers(running=7, waiting=2)))
    assert a_choice([0, 64], told) == (0, 0)  # whosever requests those are
    assert a_choice([0, 80], told) == (1, 80)
