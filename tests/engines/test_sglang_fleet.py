"""A router over companions over fake SGLangs: what clients get, and what is known of caches."""

import asyncio
import random

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import WorkerId
from radixroute.request.wire import logprobs_from_proto
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fleets import assert_whole, expected, fleet
from tests.router.clusters import collect, states, until
from tests.worker.fakes import make_tokenizer

SEED = 20261129


def sglangs(*worker_ids, **engine):
    return fleet(*worker_ids, kind=FakeSglang, **engine)


async def begun(made, prompts, n, **sampling):
    calls = [asyncio.create_task(collect(made.ask(p, n, **sampling))) for p in prompts]
    requests = made.state.requests
    await until(lambda: len(requests) == len(prompts) and all(r.position >= 3 for r in requests))
    return calls


@pytest.mark.parametrize("is_incremental", [False, True])
async def test_hits_are_predicted_as_the_engines_tell_them(is_incremental):
    """Under evictions, too: removals name parents before their children."""
    print("seed", SEED)
    rng = random.Random(SEED)
    async with sglangs("a", "b", is_incremental=is_incremental, n_blocks=120) as made:
        trunks = [[rng.randrange(1, 90) for _ in range(48)] for _ in range(8)]
        for turn in range(5):
            for trunk in rng.sample(trunks, 4):
                prompt = [*trunk, *range(1, turn * 4 + 2)]
                assert_whole(await collect(made.ask(prompt, 6)), prompt, 6)
                await until(made.is_told)
        hits = [made.state.hits.of(WorkerId(w)) for w in "ab"]
        assert sum(h.requests for h in hits) == 20
        assert sum(h.predicted_tokens for h in hits) == sum(h.cached_tokens for h in hits) > 0
        told = [sum(e.cached_told[3:]) for e in made.engines.values()]  # after the canaries
        assert [h.cached_tokens for h in hits] == told


async def test_an_engine_killed_under_sixteen_streams_costs_no_token():
    async with sglangs("a", "b", step_s=0.02) as made:
        prompts = [[*range(1, 30), n] for n in range(1, 17)]
        calls = await begun(made, prompts, 60)
        victim = max("ab", key=lambda w: made.engines[w].in_flight)
        n_moved = made.engines[victim].in_flight
        await made.engines[victim].kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 60)
        assert made.counters["requests_resumed"] == n_moved > 0
        await until(lambda: states(made.router)[victim] == "dead")


async def test_a_full_queue_sends_requests_back_and_opens_no_breaker():
    async with sglangs("a", "b") as made:
        made.engines["a"].is_storming = True
        prompts = [[*range(1, 20), n] for n in range(1, 17)]
        streams = await asyncio.gather(*(collect(made.ask(p, 6)) for p in prompts))
        for prompt, messages in zip(prompts, streams, strict=True):
            assert_whole(messages, prompt, 6)
        assert made.engines["a"].rejections
        made.engines["a"].is_storming = False
        assert made.counters["breakers_opened"] == made.counters["requests_failed"] == 0


@pytest.mark.parametrize("text", ["", "the input is too long"])
async def test_errors_in_a_stream_are_the_engines_or_the_requests_own(text):
    async with sglangs("a", "b", error_text=text) as made:
        prompt = list(range(1, 20))
        for engine in made.engines.values():
            engine.error_after = {5: 500}
        if not text:
            assert_whole(await collect(made.ask(prompt, 8)), prompt, 8)
            assert made.counters["requests_resumed"] == 1
            for engine in made.engines.values():
                engine.error_after = {5: 400}
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(made.ask(prompt, 8))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "too long" not in str(raised.value.details())


async def test_a_stop_string_is_cut_here_and_ends_the_request_there():
    async with sglangs("a", step_s=0.01) as made:
        prompt = list(range(1, 20))
        text = make_tokenizer().decode(expected(prompt, 12))
        messages = await collect(made.ask(prompt, 200, stop=[text[6:9]]))
        assert "".join(m.text for m in messages) == text[:6]
        assert messages[-1].finish_reason == pb.FINISH_REASON_STOP
        engine = made.engines["a"]
        await until(lambda: engine.n_aborted == 1 and not engine.in_flight)


async def test_of_two_requests_the_one_that_was_left_ends_and_the_other_goes_on():
    """A closed connection would free it after two seconds only: it is told."""
    async with sglangs("a", step_s=0.01) as made:
        left, stays = made.ask(list(range(1, 30)), 300), list(range(2, 30))
        whole = asyncio.create_task(collect(made.ask(stays, 60)))
        await left.read()
        left.cancel()
        engine = made.engines["a"]
        await until(lambda: engine.n_aborted == 1)
        assert_whole(await whole, stays, 60)
        await until(lambda: not engine.in_flight)
        assert (engine.n_aborted, engine.cache.pinned) == (1, 0)


async def test_an_engine_that_starts_again_ends_the_life_of_its_companion():
    async with sglangs("a") as made:
        first = made.workers["a"]
        await collect(made.ask(list(range(1, 50)), 6))
        await made.engines["a"].kill()
        await made.start_engine("a", FakeSglang())
        reason = await asyncio.wait_for(first.wait_failed(), 10)
        assert "restarted" in reason or "does not answer" in reason
        await first.stop()
        await made.join("a", incarnation=4)
        await until(made.is_told)
        assert_whole(await collect(made.ask(list(range(1, 50)), 6)), list(range(1, 50)), 6)


async def test_a_quick_restart_is_noticed_by_its_events():
    async with sglangs("a") as made:
        worker, engine = made.workers["a"], made.engines["a"]
        await collect(made.ask(list(range(1, 50)), 6))
        assert engine.events is not None
        ports = engine.events.ports
        engine.events.close()
        engine.events = engine.make_events(ports)
        engine.events.publish([{"type": "AllBlocksCleared"}])
        reason = await asyncio.wait_for(worker.wait_failed(), 10)
        assert "restarted" in reason


async def test_one_that_counts_no_steps_is_asked_to_prove_that_it_moves():
    async with sglangs("a", companion={"progress_timeout_s": 0.3}) as made:
        engine = made.engines["a"]
        engine.is_held = True
        call = made.ask(list(range(1, 30)), 5)
        reason = await asyncio.wait_for(made.workers["a"].wait_failed(), 20)
        assert "no step" in reason
        assert engine.n_proofs > 0
        call.cancel()


async def test_scopes_share_nothing_where_events_name_them():
    async with sglangs("a", adapters=("X",), names_adapters=True) as made:
        prompt = list(range(1, 50))
        scopes = [{}, {"cache_salt": "hush"}, {"lora": "X"}, {"lora": "X", "cache_salt": "hush"}]
        for turn in range(2):
            for scope in scopes:
                messages = await collect(made.ask(prompt, 4, scope=scope))
                assert messages[-1].usage.cached_tokens == (48 if turn else 0)
                await until(made.is_told)
        assert "hush" not in str(made.engines["a"].received)
        hits = made.state.hits.of(WorkerId("a"))
        assert hits.predicted_tokens == hits.cached_tokens == 4 * 48


async def test_salts_are_refused_where_the_engine_skips_them():
    async with sglangs("a", knows_salts=False) as made:
        prompt = list(range(1, 30))
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(made.ask(prompt, 4, scope={"cache_salt": "hush"}))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        assert "cannot keep caches apart" in str(raised.value.details())
        assert_whole(await collect(made.ask(prompt, 4)), prompt, 4)


@pytest.mark.parametrize("n_top", [0, 2])
async def test_log_probabilities_are_told_of_every_token(n_top):
    async with sglangs("a") as made:
        prompt = list(range(1, 20))
        messages = await collect(made.ask(prompt, 5, logprobs=n_top))
        told = []
        for message in messages:
            packed = logprobs_from_proto(message.logprobs, len(message.token_ids) // 4)
            assert packed is not None
            told += packed.unpacked()
        assert [round(one.logprob) for one in told] == [-(t + 1) for t in expected(prompt, 5)]
        assert {one.top for one in told} == {((0, -1.0), (1, -2.0))[:n_top]}
