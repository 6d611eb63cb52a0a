"""A router over companions over fake vLLMs: what clients get, whatever happens to engines."""

import asyncio
import random

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Holder, WorkerId
from radixroute.request.wire import logprobs_from_proto
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import assert_whole, expected, fleet
from tests.router.clusters import collect, states, until
from tests.worker.fakes import make_tokenizer

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
        assert sum(h.cached_tokens for h in hits) > 0.6 * sum(h.prompt_tokens for h in hits)
        assert sum(h.predicted_tokens for h in hits) == sum(h.cached_tokens for h in hits)


async def _asked(made, prompts, n, until_position=3, **sampling):
    """Streams under way, each with some tokens."""
    calls = [asyncio.create_task(collect(made.ask(p, n, **sampling))) for p in prompts]
    requests = made.state.requests
    await until(
        lambda: (
            len(requests) == len(prompts) and all(r.position >= until_position for r in requests)
        )
    )
    return calls


async def test_an_engine_killed_under_sixteen_streams_costs_no_token():
    async with fleet("a", "b", step_s=0.02) as made:
        prompts = [[*range(1, 30), n] for n in range(1, 17)]
        calls = await _asked(made, prompts, 60)
        victim = max("ab", key=lambda w: made.engines[w].in_flight)
        n_moved = made.engines[victim].in_flight
        assert n_moved
        await made.engines[victim].kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 60)
        assert made.counters["requests_resumed"] == n_moved
        await until(lambda: states(made.router)[victim] == "dead")
        assert "does not answer" in await made.workers[victim].wait_failed()


async def test_a_dead_engine_core_says_so_in_its_streams_and_they_go_on_elsewhere():
    async with fleet("a", "b", step_s=0.02) as made:
        prompts = [[*range(1, 30), n] for n in range(1, 9)]
        calls = await _asked(made, prompts, 40)
        victim = max("ab", key=lambda w: made.engines[w].in_flight)
        made.engines[victim].kill_core()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 40)
        assert "cannot go on" in await made.workers[victim].wait_failed()


async def test_a_storm_of_503_opens_no_breaker_and_fails_no_request():
    async with fleet("a", "b") as made:
        made.engines["a"].is_storming = True
        prompts = [[*range(1, 20), n] for n in range(1, 25)]
        streams = await asyncio.gather(*(collect(made.ask(p, 6)) for p in prompts))
        for prompt, messages in zip(prompts, streams, strict=True):
            assert_whole(messages, prompt, 6)
        assert made.engines["a"].rejections
        made.engines["a"].is_storming = False
        counters = made.counters
        assert counters["breakers_opened"] == counters["requests_failed"] == 0
        assert states(made.router) == {"a": "live", "b": "live"}


@pytest.mark.parametrize("code", [500, 503])
async def test_an_engines_error_in_a_stream_moves_it_elsewhere(code):
    async with fleet("a", "b") as made:
        for engine in made.engines.values():
            engine.error_after = {5: code}
        messages = await collect(made.ask(list(range(1, 20)), 8))
        assert_whole(messages, list(range(1, 20)), 8)
        assert made.counters["requests_resumed"] == 1
        assert [len(e.error_after) for e in made.engines.values()].count(1) == 1


async def test_a_requests_own_error_in_a_stream_ends_it_there():
    async with fleet("a", "b") as made:
        for engine in made.engines.values():
            engine.error_after = {5: 400}
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(made.ask(list(range(1, 20)), 8))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert [len(e.error_after) for e in made.engines.values()].count(1) == 1
        assert made.counters["requests_resumed"] == made.counters["requests_retried"] == 0


async def test_a_stop_string_is_cut_here_and_ends_the_request_there():
    async with fleet("a", step_s=0.01) as made:
        prompt = list(range(1, 20))
        text = make_tokenizer().decode(expected(prompt, 12))
        messages = await collect(made.ask(prompt, 200, stop=[text[6:9]]))
        assert "".join(m.text for m in messages) == text[:6]
        assert messages[-1].finish_reason == pb.FINISH_REASON_STOP
        engine = made.engines["a"]
        await until(lambda: not engine.in_flight)
        assert engine.n_aborted == 1
        assert "stop" not in engine.received[-1]


async def test_a_client_that_leaves_frees_its_request_in_the_engine():
    async with fleet("a", step_s=0.01) as made:
        call = made.ask(list(range(1, 30)), 300)
        await call.read()
        call.cancel()
        engine = made.engines["a"]
        await until(lambda: engine.n_aborted == 1 and not engine.in_flight)
        assert engine.cache.pinned == 0
        await until(lambda: not made.workers["a"].in_flight)


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


async def test_an_engine_that_starts_again_ends_the_life_of_its_companion():
    async with fleet("a") as made:
        first = made.workers["a"]
        await collect(made.ask(list(range(1, 50)), 6))
        await made.engines["a"].kill()
        await made.start_engine("a", FakeVllm())
        reason = await asyncio.wait_for(first.wait_failed(), 10)
        assert "restarted" in reason or "does not answer" in reason
        await first.stop()
        await made.join("a", incarnation=4)
        await until(made.is_told)
        assert_whole(await collect(made.ask(list(range(1, 50)), 6)), list(range(1, 50)), 6)


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


async def test_a_stuck_engine_is_a_dead_one():
    async with fleet("a", companion={"progress_timeout_s": 0.5}) as made:
        made.engines["a"].is_held = True
        call = made.ask(list(range(1, 30)), 5)
        reason = await asyncio.wait_for(made.workers["a"].wait_failed(), 20)
        assert "no step" in reason
        call.cancel()


async def test_penalties_on_output_end_cleanly_where_they_cannot_go_on():
    async with fleet("a", "b", step_s=0.02) as made:
        (call,) = await _asked(made, [list(range(1, 30))], 60, presence_penalty=0.5)
        victim = next(w for w in "ab" if made.engines[w].in_flight)
        await made.engines[victim].kill()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert raised.value.code() is grpc.StatusCode.INTERNAL
        assert "cut off" in str(raised.value.details())
        assert made.counters["requests_not_resumable"] == 1
        other = made.engines["b" if victim == "a" else "a"]
        assert not other.in_flight


async def test_answers_go_on_between_an_engine_of_ours_and_another():
    same = {"fingerprint": "fa4e", "kv_dtype": "float32"}
    async with fleet("a", step_s=0.02, companion=same) as made:
        await made.join_ours("own")
        prompts = [[*range(1, 30), n] for n in range(1, 9)]
        calls = [asyncio.create_task(collect(made.ask(p, 60, seed=0))) for p in prompts]
        engine = made.engines["a"]
        await until(lambda: engine.n_steps > 8 and engine.in_flight > 0)
        n_moved = engine.in_flight
        await engine.kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 60)
        assert made.counters["requests_resumed"] == n_moved


@pytest.mark.parametrize("n_top", [0, 2])
async def test_log_probabilities_are_told_of_every_token(n_top):
    async with fleet("a") as made:
        prompt = list(range(1, 20))
        messages = await collect(made.ask(prompt, 5, logprobs=n_top))
        told = []
        for message in messages:
            packed = logprobs_from_proto(message.logprobs, len(message.token_ids) // 4)
            assert packed is not None
            told += packed.unpacked()
        assert [round(one.logprob) for one in told] == [-(t + 1) for t in expected(prompt, 5)]
        assert {one.top for one in told} == {((0, -1.0), (1, -2.0))[:n_top]}


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
        engine.cache.match = lambda tokens, extra: []  # type: ignore[method-assign]
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


def index_blocks(made):
    blocks: int = made.state.audit._index.n_blocks(Holder(WorkerId("a"), 0))
    return blocks
