"""vLLM's dialect, by exchanges noted down from vLLM 0.32.0 (tests/data/vllm-0.32)."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions.dialects.dialect import Answer, EventPlace
from radixroute.worker.companions.dialects.vllm import VllmDialect
from radixroute.worker.companions.join.findings import JoinRefused
from radixroute.worker.engine.engine import EngineRequest

FILE = Path(__file__).parents[1] / "data" / "vllm-0.32" / "exchanges.jsonl"
CAPTURED = {row["name"]: row for row in map(json.loads, FILE.read_text().splitlines())}
SEED = 32


def answer(name):
    return Answer(CAPTURED[name]["status"], CAPTURED[name]["body"].encode())


def facts(*left_out):
    names = ("models", "metrics", "sources", "version")
    return {
        CAPTURED[name]["path"]: Answer(404) if name in left_out else answer(name) for name in names
    }


def request(emitted=(), scope=RequestScope(), **sampling):  # noqa: B008
    return EngineRequest(
        request_id="s1.1",
        attempt=2,
        session_id="s1",
        prompt=np.arange(1, 6, dtype=np.uint32),
        sampling=SamplingParams(**{"max_tokens": 9, **sampling}),
        emitted=np.array(emitted, np.uint32),
        scope=scope,
    )


def body_of(ask):
    return json.loads(ask.body)


def heard(name, cut=None):
    """What a reader makes of a stream that comes in pieces."""
    data = CAPTURED[name]["body"].encode()
    pieces = [data] if cut is None else [data[i:j] for i, j in zip([0, *cut], [*cut, None])]  # noqa: B905
    reader = VllmDialect().reader()
    found = [one for piece in pieces for one in reader.feed(piece)]
    return found + reader.end()


def test_the_statement_of_a_noted_server():
    said = VllmDialect().statement(facts(), "10.0.0.7")
    assert (said.model, said.version, said.root) == ("smol", "0.32.0", "/path/of/model")
    assert (said.max_model_len, said.block_size, said.kv_blocks) == (2048, 32, 71)
    place = EventPlace(
        *(0, "tcp://10.0.0.7:23811", "tcp://10.0.0.7:23812", "kv-events"),
        buffer_steps=10_000,
        hwm=100_000,
        queue_len=100_000,
    )
    assert said.places == (place,)
    assert said.kv_dtype == ""  # auto: of the model's own


def test_older_servers_have_no_sources_and_nothing_is_made_up():
    said = VllmDialect().statement(facts("sources", "version"), "::1")
    assert (said.places, said.version) == ((), "")
    assert VllmDialect().statement(facts("metrics"), "h").block_size == 0
    with pytest.raises(JoinRefused):
        VllmDialect().statement(facts("models"), "h")
    assert "[::1]" in VllmDialect().statement(facts(), "::1").places[0].events


def test_numbers_of_the_metrics_page():
    numbers = VllmDialect().numbers(answer("metrics").body)
    assert (numbers.running, numbers.waiting, numbers.kv_usage) == (1, 0, 0.14)
    assert (numbers.steps, numbers.started_s) == (57, 1.76e9)
    assert VllmDialect().numbers(b"\xff no page {").steps is None


def test_tokens_come_as_they_come_and_the_last_brings_what_was_cached():
    found = heard("completion")
    assert [one.token_ids for one in found] == [(504,), (3575,), (282,), (4649,)]
    assert [one.finish for one in found] == [None, None, None, FinishReason.LENGTH]
    assert [one.cached_tokens for one in found] == [None, None, None, 32]


def test_a_stream_means_the_same_in_any_pieces():
    rng = random.Random(SEED)
    print("seed", SEED)
    for name in ("completion", "eos", "aborted", "core-dead", "bad-token"):
        size = len(CAPTURED[name]["body"])
        for _ in range(50):
            cut = sorted(rng.sample(range(1, size), rng.randrange(1, 12)))
            assert heard(name, cut) == heard(name)


@pytest.mark.parametrize(
    ("name", "finish", "ids"),
    [
        ("eos", FinishReason.STOP, (2,)),
        ("aborted", FinishReason.ABORT, ()),
        ("core-dead", FinishReason.ABORT, ()),
        ("bad-token", FinishReason.INVALID, ()),
    ],
)
def test_how_answers_end(name, finish, ids):
    last = heard(name)[-1]
    assert (last.finish, last.token_ids) == (finish, ids)
    assert [one.finish for one in heard(name)[:-1]] == [None] * (len(heard(name)) - 1)


def test_a_connection_that_ends_too_soon_gave_its_request_up():
    data = CAPTURED["completion"]["body"].encode()
    rng = random.Random(SEED)
    end = data.index(b'"finish_reason":"length"')
    for cut in rng.sample(range(end), 40):
        reader = VllmDialect().reader()
        found = [*reader.feed(data[:cut]), *reader.end()]
        assert found[-1].finish is FinishReason.ABORT
        assert found[-1].is_engine_fault


def test_bytes_that_are_no_answer_end_it_and_nothing_is_heard_after():
    reader = VllmDialect().reader()
    assert [one.finish for one in reader.feed(b"data: {nope\n")] == [FinishReason.ABORT]
    assert reader.feed(b'data: {"choices":[{"token_ids":[1]}]}\n\n') == []
    assert reader.end() == []


@pytest.mark.parametrize(
    ("status", "finish"),
    [
        (400, FinishReason.INVALID),
        (404, FinishReason.ERROR),
        (401, FinishReason.ERROR),
        (500, FinishReason.ABORT),
        (503, FinishReason.FULL),
    ],
)
def test_what_refusals_mean(status, finish):
    assert VllmDialect().refusal(status, b"").finish is finish


def test_no_word_of_the_engine_reaches_a_client():
    for name in ("too-long", "no-model"):
        said = VllmDialect().refusal(CAPTURED[name]["status"], answer(name).body)
        assert "2048" not in said.error
        assert "nope" not in said.error


def test_every_parameter_is_sent_so_that_no_default_of_the_server_is_taken():
    ask = VllmDialect().call(request(logit_bias=((3, 1.5),), stop=("x",)), "c1", "smol")
    sent = body_of(ask)
    assert (ask.method, ask.path, dict(ask.headers)["X-Request-Id"]) == (
        "POST",
        "/v1/completions",
        "c1",
    )
    assert sent == {
        "model": "smol",
        "prompt": [1, 2, 3, 4, 5],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "add_special_tokens": False,
        "max_tokens": 9,
        "min_tokens": 0,
        "temperature": 1.0,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": 0.0,
        "seed": 0,
        "presence_penalty": 0.0,
        "frequency_penalty": 0.0,
        "repetition_penalty": 1.0,
        "logit_bias": {"3": 1.5},
        "stop_token_ids": [],
        "ignore_eos": False,
    }


def test_a_resumed_request_sends_its_output_as_prompt_and_asks_for_the_rest():
    sent = body_of(VllmDialect().call(request((7, 8), min_tokens=3, seed=5), "c", "smol"))
    assert sent["prompt"] == [1, 2, 3, 4, 5, 7, 8]
    assert (sent["max_tokens"], sent["min_tokens"]) == (7, 1)
    other = body_of(VllmDialect().call(request((7, 8, 9), seed=5), "c", "smol"))
    assert len({5, sent["seed"], other["seed"]}) == 3  # its generator would repeat itself


@pytest.mark.parametrize("seed", [0, 2**63 - 1, 2**63, 2**64 - 1])
def test_seeds_fit_what_the_engine_takes(seed):
    for emitted in ((), (4,)):
        sent = body_of(VllmDialect().call(request(emitted, seed=seed), "c", "smol"))
        assert 0 <= sent["seed"] < 2**63


def test_salts_are_digests_with_the_clusters_secret():
    salted = RequestScope(salt="hush")
    sent = [
        body_of(VllmDialect(secret).call(request(scope=scope), "c", "smol")).get("cache_salt")
        for secret, scope in (
            ("one", salted),
            ("two", salted),
            ("one", RequestScope(salt="hush", tenant="t")),
            ("one", RequestScope(lora="X")),
        )
    ]
    assert sent[3] is None
    assert len(set(sent)) == 4
    assert all(one is None or ("hush" not in one and len(one) == 64) for one in sent)


def test_a_request_for_a_rank_names_it_and_none_where_there_is_one():
    for rank, named in ((None, None), (0, "0"), (3, "3")):
        headers = dict(VllmDialect().call(request(), "c1", "smol", rank=rank).headers)
        assert headers.get("X-data-parallel-rank") == named
        assert headers["X-Request-Id"] == "c1"


def test_ranks_are_told_apart_by_their_metrics():
    page = answer("metrics").body.decode()
    second = page.replace('engine="0"', 'engine="1"').replace("57.0", "60.0").replace("1.0", "2.0")
    both = VllmDialect().numbers((second + page).encode())
    assert [(one.running, one.steps) for one in both.ranks] == [(1, 57), (2, 60)]
    assert (both.running, both.steps) == (3, 117)
    # Blocks are those of all ranks in each line, as a real server with two of 600 said 1,200 twice.
    of_both = (second + page).replace('num_gpu_blocks="72"', 'num_gpu_blocks="144"')
    assert of_both.count('num_gpu_blocks="144"') == 2
    answers = {**facts(), "/metrics": Answer(200, of_both.encode())}
    said = VllmDialect().statement(answers, "h")
    assert (said.ranks, said.kv_blocks) == (2, 142)
