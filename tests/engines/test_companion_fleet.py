"""A router over companions over fake vLLMs: what clients get, whatever happens to engines."""

import asyncio

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import logprobs_from_proto
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import assert_whole, expected, fleet
from tests.router.clusters import collect, states, until
from tests.worker.fakes import make_tokenizer

SEED = 20261129


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
    # Blocks for all of them in one engine: the fake preempts nobody.
    async with fleet("a", "b", step_s=0.02, n_blocks=512) as made:
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
