"""A router over companions over fake vLLMs: what it knows of their caches, and how it learns."""

import asyncio
import random

from radixroute.radix.ids import Holder, WorkerId
from tests.engines.fleets import assert_whole, fleet
from tests.router.clusters import collect, states, until

SEED = 20261129


async def test_hits_are_predicted_as_the_engines_tell_them():
    print("seed", SEED)
    rng = random.Random(SEED)
    async with fleet("a", "b") as made:
        trunks = [[rng.randrange(1, 90) for _ in range(48)] for _ in range(4)]
        for turn in range(5):
            prompts = [[*trunk, *range(1, turn * 4 + 2)] for trunk in trunks]
            streams = await asyncio.gather(*(collect(made.ask(p, 6)) for p in prompts))
            for prompt, messages in zip(prompts, streams, strict=True):
                assert_whole(messages, prompt, 6)
            await until(made.is_told)
        hits = [made.state.hits.of(WorkerId(w)) for w in "ab"]
        assert sum(h.requests for h in hits) == 20
        assert sum(h.cached_tokens for h in hits) == sum(
            told for e in made.engines.values() for told in e.cached_told[2:]
        )
        # Where hits are worth it, that is: the fakes' prompts take next to no time.
        assert sum(h.cached_tokens for h in hits) > 0.4 * sum(h.prompt_tokens for h in hits)
        assert sum(h.predicted_tokens for h in hits) == sum(h.cached_tokens for h in hits)


async def test_a_companion_that_starts_again_knows_the_cache_from_the_replay():
    async with fleet("a") as made:
        prompt = list(range(1, 50))
        await collect(made.ask(prompt, 6))
        await until(made.is_told)
        await made.workers["a"].stop()
        await made.join("a", incarnation=4)
        await until(made.is_told)
        await collect(made.ask(prompt, 6))
        hits = made.state.hits.of(WorkerId("a"))
        assert hits.predicted_tokens == hits.cached_tokens > 0


async def test_a_link_that_blinks_is_no_death_and_what_was_missed_is_asked_for():
    async with fleet("a") as made:
        engine = made.engines["a"]
        assert engine.events is not None
        engine.events.loses = 1
        await collect(made.ask(list(range(1, 50)), 6))
        await collect(made.ask(list(range(2, 50)), 6))
        await until(made.is_told)
        assert states(made.router) == {"a": "live"}


async def test_scopes_share_nothing_and_the_engine_never_sees_a_salt():
    async with fleet("a", adapters=("X",)) as made:
        prompt = list(range(1, 50))
        scopes = [{}, {"cache_salt": "hush"}, {"lora": "X"}, {"lora": "X", "cache_salt": "hush"}]
        for turn in range(2):
            for scope in scopes:
                messages = await collect(made.ask(prompt, 4, scope=scope))
                assert messages[-1].usage.cached_tokens == (48 if turn else 0)
                await until(made.is_told)
        engine = made.engines["a"]
        sent = [body.get("cache_salt") for body in engine.received]
        assert "hush" not in str(engine.received)
        assert len({one for one in sent if one}) == 1
        hits = made.state.hits.of(WorkerId("a"))
        assert hits.predicted_tokens == hits.cached_tokens == 4 * 48


async def test_reports_that_come_late_cost_no_honest_engine_its_credit():
    """With evictions all the time: what was held at dispatch may be gone when the report comes."""
    print("seed", SEED)
    rng = random.Random(SEED)
    async with fleet("a", n_blocks=48, step_s=0.001) as made:
        trunks = [[rng.randrange(1, 90) for _ in range(60)] for _ in range(6)]
        for _ in range(12):
            prompts = [[*rng.choice(trunks), rng.randrange(1, 90)] for _ in range(2)]
            await asyncio.gather(*(collect(made.ask(p, 12)) for p in prompts))
        audit = made.state.audit
        await until(lambda: audit.of(WorkerId("a")).judged + audit.of(WorkerId("a")).unjudged == 24)
        record = audit.of(WorkerId("a"))
        assert record.judged > 12
        assert (record.differing, record.has_credit) == (0, True)
        await until(made.is_told)
        hits = made.state.hits.of(WorkerId("a"))
        assert 0 < hits.cached_tokens < hits.prompt_tokens


async def test_an_engine_that_caches_less_than_its_events_say_loses_its_credit():
    rng = random.Random(SEED)
    async with fleet("a") as made:
        trunk = [rng.randrange(1, 90) for _ in range(60)]
        await collect(made.ask(trunk, 2))
        await until(made.is_told)
        engine = made.engines["a"]
        engine.cache.match = lambda tokens, extra: []
        for number in range(18):
            await collect(made.ask([*trunk, number + 1], 2))
        await until(lambda: not made.state.audit.of(WorkerId("a")).has_credit)
        assert made.state.audit.of(WorkerId("a")).differing > 0


async def test_a_warm_engine_whose_replay_is_cut_tells_again_what_it_finds():
    async with fleet("a", buffer_steps=4, n_blocks=80) as made:
        old = list(range(1, 50))
        await collect(made.ask(old, 6))
        for number in range(4):
            await collect(made.ask([number + 1] * 20, 6))
        await made.workers["a"].stop()
        await made.join("a", incarnation=4)
        hits = made.state.hits
        before = hits.of(WorkerId("a")).predicted_tokens
        for n_predicted in (0, 48, 96):
            await collect(made.ask([*old, 1], 6))
            await until(lambda: index_blocks(made) >= 12)
            assert hits.of(WorkerId("a")).predicted_tokens - before == n_predicted
        engine = made.engines["a"]
        assert engine.received[-1]["vllm_xargs"] == {"kv_cache_report_mode": "full"}
        for number in range(30):  # everything is evicted, and nothing of it stays behind
            await collect(made.ask([number + 40] * 60, 6))
        await until(lambda: index_blocks(made) <= len(engine.cache.held))
        (follower,) = made.workers["a"]._engine.followers  # type: ignore[attr-defined]
        assert follower._stream.counters.copies_disproved == 0  # they never were counted twice


def index_blocks(made):
    blocks: int = made.state.audit._index.n_blocks(Holder(WorkerId("a"), 0))
    return blocks
