"""A router over companions over servers with no more than OpenAI's API, and over mixed fleets."""

import asyncio
import random
from typing import Any

import grpc
import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Holder, WorkerId
from tests.engines.fake_openai import HALVES, FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import assert_whole, fleet
from tests.router.clusters import collect, states, until
from tests.worker.fakes import EOS, make_tokenizer, next_token

SEED = 20261129
SMALL = {"block_size": 4}


def openais(*worker_ids, companion=SMALL, **engine):
    return fleet(*worker_ids, kind=FakeOpenAi, companion=companion, **engine)


def text_of(prompt, n):
    tokens = list(prompt)
    for _ in range(n):
        tokens.append(next_token(tokens, 0, forbidden=tuple(sorted((EOS, *HALVES)))))
    return make_tokenizer().decode(tokens[len(prompt) :])


def ask(made, prompt, n, **sampling):
    return made.ask(prompt, n, **{"ignore_eos": False, **sampling})


def assert_text(messages, prompt, n):
    assert "".join(message.text for message in messages) == text_of(prompt, n)
    finishes = [message.finish_reason for message in messages if message.finish_reason]
    assert finishes == [pb.FINISH_REASON_LENGTH]


@pytest.mark.parametrize("returns_ids", [False, True])
async def test_answers_are_whole_and_hits_predicted_as_they_are_told(returns_ids):
    print("seed", SEED)
    rng = random.Random(SEED)
    async with openais("a", "b", returns_ids=returns_ids) as made:
        trunks = [[rng.randrange(1, 90) for _ in range(48)] for _ in range(4)]
        for turn in range(5):
            prompts = [[*trunk, *range(1, turn * 4 + 2)] for trunk in trunks]
            streams = await asyncio.gather(*(collect(ask(made, p, 6)) for p in prompts))
            for prompt, messages in zip(prompts, streams, strict=True):
                assert_text(messages, prompt, 6)
        hits = [made.state.hits.of(WorkerId(w)) for w in "ab"]
        assert sum(h.requests for h in hits) == 20
        assert sum(h.predicted_tokens for h in hits) == sum(h.cached_tokens for h in hits)
        assert sum(h.cached_tokens for h in hits) > 0.3 * sum(h.prompt_tokens for h in hits)
        assert {one.audit for one in await made.workers_said()} == {"believed"}
        asked = pb.ExplainRequest(request_id=streams[-1][0].request_id)
        assert list((await made.inspect.Explain(asked)).believed) == ["a", "b"]


async def test_a_cache_smaller_than_believed_is_learned_and_costs_no_credit():
    print("seed", SEED)
    rng = random.Random(SEED)
    async with openais("a", n_blocks=60, companion={**SMALL, "max_model_len": 200}) as made:
        trunks = [[rng.randrange(1, 90) for _ in range(60)] for _ in range(6)]
        for _ in range(40):
            await collect(ask(made, [*rng.choice(trunks), rng.randrange(1, 90)], 2))
        audit = made.state.audit
        await until(lambda: audit.of(WorkerId("a")).judged + audit.of(WorkerId("a")).unjudged == 40)
        record = audit.of(WorkerId("a"))
        assert (record.differing, record.has_credit, record.is_believed) == (0, True, True)
        held = len(made.engines["a"].cache.held)
        index = made.state.audit._index.n_blocks(Holder(WorkerId("a"), 0))
        assert index <= 2 * held
        hits = made.state.hits.of(WorkerId("a"))
        assert 0 < hits.cached_tokens < hits.prompt_tokens


async def test_a_belief_that_is_never_true_counts_for_nothing():
    async with openais("a") as made:
        rng = random.Random(SEED)
        trunk = [rng.randrange(1, 90) for _ in range(60)]
        await collect(ask(made, trunk, 2))
        made.engines["a"].cache.match = lambda tokens, extra: []
        for number in range(24):
            await collect(ask(made, [*trunk, number + 1], 2))
        await until(lambda: not made.state.audit.of(WorkerId("a")).has_credit)
        assert made.state.audit.of(WorkerId("a")).differing == 0


async def test_without_ids_an_answer_that_is_cut_off_ends_cleanly():
    """Its tokens are not those that were drawn: nobody goes on with them, a vLLM neither."""
    async with openais("a", step_s=0.02) as made:
        prompt = list(range(1, 30))
        call = asyncio.create_task(collect(ask(made, prompt, 60)))
        requests = made.state.requests
        await until(lambda: any(one.position >= 3 for one in requests))
        await made.start_engine("v", FakeVllm())
        await made.join("v")
        await made.engines["a"].kill()
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await call
        assert "cut off" in str(raised.value.details())
        assert made.counters["requests_not_resumable"] == 1
        assert not made.engines["v"].in_flight


async def test_before_the_first_token_it_is_tried_elsewhere():
    async with openais("a", "b") as made:
        prompt = list(range(1, 30))
        for engine in made.engines.values():
            engine.error_after = {0: 500}
        del made.engines["b"].error_after[0]
        for n in range(4):
            assert_text(await collect(ask(made, [*prompt, n], 6)), [*prompt, n], 6)
        assert made.counters["requests_failed"] == 0


async def test_with_ids_an_answer_goes_on_token_for_token():
    async with openais("a", "b", returns_ids=True, step_s=0.02) as made:
        prompts = [[*range(1, 30), n] for n in range(1, 9)]
        calls = [asyncio.create_task(collect(ask(made, p, 40))) for p in prompts]
        requests = made.state.requests
        await until(lambda: len(requests) == 8 and all(one.position >= 3 for one in requests))
        victim = max("ab", key=lambda w: made.engines[w].in_flight)
        n_moved = made.engines[victim].in_flight
        await made.engines[victim].kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_text(messages, prompt, 40)
        assert made.counters["requests_resumed"] == n_moved > 0


@pytest.mark.parametrize(
    ("asked", "scope"),
    [
        ({"ignore_eos": True}, {}),
        ({"top_k": 5}, {}),
        ({"logprobs": 1}, {}),
        ({}, {"cache_salt": "hush"}),
    ],
)
async def test_what_it_cannot_do_is_refused_by_its_name(asked, scope, caplog):
    async with openais("a") as made:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await collect(ask(made, [1, 2, 3], 4, scope=scope, **asked))
        assert raised.value.code() is grpc.StatusCode.INVALID_ARGUMENT
        name = next(iter({**asked, **scope}))
        assert f"as it stands: {name}" in str(raised.value.details())
        assert f"refused: {name}" in caplog.text
        assert "hush" not in caplog.text + str(raised.value.details())


async def test_a_stop_string_and_a_client_that_leaves_free_their_requests():
    async with openais("a", step_s=0.01) as made:
        engine, prompt = made.engines["a"], list(range(1, 20))
        text = text_of(prompt, 12)
        messages = await collect(ask(made, prompt, 200, stop=[text[6:9]]))
        assert "".join(m.text for m in messages) == text[:6]
        await until(lambda: engine.n_aborted == 1 and not engine.in_flight)
        other = [7] * 19
        call = ask(made, other, 300)
        while (await call.read()).position < 12:
            pass
        call.cancel()
        await until(lambda: engine.n_aborted == 2 and not engine.in_flight)
        # What was heard of both is believed to be cached: four blocks of each prompt, and output.
        await until(lambda: made.state.audit._index.n_blocks(Holder(WorkerId("a"), 0)) >= 8 + 3)


async def test_a_vllm_without_events_is_believed_too():
    companion = {"allow_no_events": True}
    async with fleet("a", has_events=False, companion=companion) as made:
        prompt = list(range(1, 50))
        for _ in range(3):
            await collect(made.ask(prompt, 6))
        hits = made.state.hits.of(WorkerId("a"))
        assert hits.predicted_tokens == hits.cached_tokens == 2 * 48
        assert [one.audit for one in await made.workers_said()] == ["believed"]


async def test_all_three_kinds_serve_one_fleet():
    same: dict[str, Any] = {"fingerprint": "fa4e", "kv_dtype": "float32", "block_size": 4}
    async with fleet("v", companion=same) as made:
        await made.start_engine("s", FakeSglang())
        await made.join("s", **same)
        await made.start_engine("o", FakeOpenAi(forbidden=()))
        await made.join("o", **same)
        infos = [worker.info for worker in made.workers.values()]
        assert [one.kind for one in infos if one] == ["vllm", "sglang", "openai"]
        prompts = [[*range(1, 30), n] for n in range(1, 25)]
        streams = await asyncio.gather(*(collect(ask(made, p, 8, seed=0)) for p in prompts))
        assert all(messages[-1].finish_reason for messages in streams)
        assert all(made.state.hits.of(WorkerId(w)).requests for w in "vso")
        assert set(states(made.router).values()) == {"live"}
        said = {one.worker_id: one.audit for one in await made.workers_said()}
        assert said["o"] == "believed"


async def test_streams_of_one_kind_go_on_at_another():
    same: dict[str, Any] = {"fingerprint": "fa4e", "kv_dtype": "float32"}
    async with fleet("v", companion=same, step_s=0.02) as made:
        await made.start_engine("s", FakeSglang(step_s=0.02))
        await made.join("s", **same)
        prompts = [[*range(1, 30), n] for n in range(1, 13)]
        calls = [asyncio.create_task(collect(made.ask(p, 60))) for p in prompts]
        requests = made.state.requests
        await until(lambda: len(requests) == 12 and all(one.position >= 3 for one in requests))
        victim = max("vs", key=lambda w: made.engines[w].in_flight)
        n_moved = made.engines[victim].in_flight
        await made.engines[victim].kill()
        for prompt, messages in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert_whole(messages, prompt, 60)
        assert made.counters["requests_resumed"] == n_moved > 0
