"""SGLang's dialect, by exchanges of its published protocol (tests/data/sglang-0.5)."""

import json
import random
from pathlib import Path

import numpy as np
import pytest

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions.dialects.dialect import Answer, EventPlace
from radixroute.worker.companions.dialects.sglang import SglangDialect
from radixroute.worker.companions.join.findings import JoinRefused
from radixroute.worker.engine.engine import EngineRequest

FILE = Path(__file__).parents[1] / "data" / "sglang-0.5" / "exchanges.jsonl"
NOTED = {row["name"]: row for row in map(json.loads, FILE.read_text().splitlines())}
SEED = 523
EOS = 2


def answers(*names):
    asked = {path: Answer(404) for path in ("/v1/models", "/server_info", "/get_server_info")}
    noted = [NOTED[name] for name in names]
    return asked | {row["path"]: Answer(row["status"], row["body"].encode()) for row in noted}


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


def sent(one, call_id="c1", secret=""):
    ask = SglangDialect(secret).call(one, call_id, "smol")
    assert (ask.method, ask.path) == ("POST", "/generate")
    return json.loads(ask.body)


def heard(name, cut=None, n_logprobs=None):
    data = NOTED[name]["body"].encode()
    pieces = [data] if cut is None else [data[i:j] for i, j in zip([0, *cut], [*cut, None])]  # noqa: B905
    reader = SglangDialect().reader(n_logprobs, {EOS})
    found = [one for piece in pieces for one in reader.feed(piece)]
    return found + reader.end()


@pytest.mark.parametrize("info", ["info", "info-old"])
def test_the_statement_of_a_server_new_and_old(info):
    said = SglangDialect().statement(answers("models", info), "10.0.0.7")
    assert (said.model, said.version, said.root) == ("smol", "0.5.23", "/path/of/model")
    assert (said.max_model_len, said.block_size, said.kv_blocks) == (2048, 16, 256)
    assert said.places == (EventPlace(0, "tcp://10.0.0.7:5557", "tcp://10.0.0.7:5558", ""),)
    assert (said.kv_dtype, said.has_prefix_cache, said.keeps_salts_apart) == ("", True, None)


def test_ranks_have_ports_that_follow_and_no_events_have_none():
    ranks = SglangDialect().statement(answers("models", "info-ranks"), "::1").places
    assert [place.events for place in ranks] == ["tcp://[::1]:5557", "tcp://[::1]:5558"]
    assert [place.replay for place in ranks] == ["tcp://[::1]:5567", "tcp://[::1]:5568"]
    assert SglangDialect().statement(answers("models", "info-no-events"), "h").places == ()
    for lacking in (("models",), ("info",)):
        with pytest.raises(JoinRefused):
            SglangDialect().statement(answers(*lacking), "h")


def test_numbers_of_the_metrics_page_count_no_steps():
    numbers = SglangDialect().numbers(NOTED["metrics"]["body"].encode())
    assert (numbers.running, numbers.waiting, numbers.kv_usage) == (3, 2, 0.28)
    assert (numbers.steps, numbers.started_s) == (None, None)


def test_all_so_far_and_what_is_new_mean_the_same():
    found = heard("cumulative")
    assert found == heard("incremental")
    assert [one.token_ids for one in found] == [(504,), (3575,), (282,), (4649,)]
    assert [one.finish for one in found] == [None, None, None, FinishReason.LENGTH]
    assert [one.cached_tokens for one in found] == [32, None, None, None]  # once, and at once
    assert [one.token_ids for one in heard("bursts")] == [(504, 3575), (282, 4649)]


def test_a_stream_means_the_same_in_any_pieces():
    rng = random.Random(SEED)
    print("seed", SEED)
    for name in ("cumulative", "incremental", "eos", "aborted", "engine-error", "bad-request"):
        size = len(NOTED[name]["body"])
        for _ in range(50):
            cut = sorted(rng.sample(range(1, size), rng.randrange(1, 12)))
            assert heard(name, cut) == heard(name)


@pytest.mark.parametrize(
    ("name", "finish", "ids"),
    [
        ("eos", FinishReason.STOP, (EOS,)),
        ("stop-without-token", FinishReason.STOP, ()),
        ("aborted", FinishReason.ABORT, ()),
        ("queue-full", FinishReason.FULL, ()),
        ("too-long", FinishReason.INVALID, ()),
        ("bad-request", FinishReason.INVALID, ()),
        ("engine-error", FinishReason.ABORT, ()),
    ],
)
def test_how_answers_end(name, finish, ids):
    last = heard(name)[-1]
    assert (last.finish, last.token_ids) == (finish, ids)
    assert all(one.finish is None for one in heard(name)[:-1])
    assert "2048" not in last.error


def test_text_before_a_stop_stays_text():
    """What reads on takes the last token of a stop for its end, and not as text."""
    assert [one.token_ids for one in heard("stop-without-token")] == [(504,), ()]


def test_a_connection_that_ends_too_soon_gave_its_request_up():
    data = NOTED["cumulative"]["body"].encode()
    rng = random.Random(SEED)
    end = data.index(b'"finish_reason":{')
    for cut in rng.sample(range(end), 40):
        reader = SglangDialect().reader(None, {EOS})
        found = reader.feed(data[:cut]) + reader.end()
        assert found[-1].finish is FinishReason.ABORT
        assert found[-1].is_engine_fault


def test_tokens_that_are_missing_end_it_rather_than_leave_a_hole():
    chunk = {"output_ids": [5], "meta_info": {"completion_tokens": 3, "finish_reason": None}}
    reader = SglangDialect().reader(None, {EOS})
    found = reader.feed(b"data: " + json.dumps(chunk).encode() + b"\n\n")
    assert [one.finish for one in found] == [FinishReason.ABORT]
    assert reader.feed(b"data: {nope\n") == reader.end() == []


def test_log_probabilities_are_those_of_what_is_new():
    found = heard("logprobs", n_logprobs=2)
    tokens = [token for one in found for token in one.logprobs.unpacked()]
    assert [round(token.logprob, 3) for token in tokens] == [-0.5, -1.5]
    assert [[i for i, _ in token.top] for token in tokens] == [[504, 7], [9, 3575]]
    assert all(one.logprobs is None for one in heard("logprobs"))
    plain = heard("logprobs", n_logprobs=0)
    assert [len(token.top) for one in plain for token in one.logprobs.unpacked()] == [0, 0]


def test_every_parameter_is_sent_and_none_that_it_does_not_know():
    body = sent(request(logit_bias=((3, 1.5),), stop=("x",)))
    assert body == {
        "rid": "c1",
        "input_ids": [1, 2, 3, 4, 5],
        "stream": True,
        "sampling_params": {
            "max_new_tokens": 9,
            "min_new_tokens": 0,
            "temperature": 1.0,
            "top_p": 1.0,
            "top_k": -1,
            "min_p": 0.0,
            "sampling_seed": 0,
            "presence_penalty": 0.0,
            "frequency_penalty": 0.0,
            "repetition_penalty": 1.0,
            "stop_token_ids": [],
            "ignore_eos": False,
            "skip_special_tokens": True,
            "logit_bias": {"3": 1.5},
        },
    }
    assert sent(request(logprobs=2))["top_logprobs_num"] == 2
    assert sent(request(scope=RequestScope(lora="X")))["lora_path"] == "X"


def test_a_resumed_request_sends_its_output_as_prompt_and_keeps_its_seed():
    body = sent(request((7, 8), min_tokens=3, seed=2**64 - 1))
    assert body["input_ids"] == [1, 2, 3, 4, 5, 7, 8]
    params = body["sampling_params"]
    assert (params["max_new_tokens"], params["min_new_tokens"]) == (7, 1)
    assert params["sampling_seed"] == 2**63 - 1  # it draws by positions


def test_an_abort_names_one_request_and_no_other():
    asks = [SglangDialect().abort(f"{'ab' * 8}{n:016x}") for n in (1, 16)]
    assert {one.path for one in asks if one is not None} == {"/abort_request"}
    rids = [json.loads(one.body)["rid"] for one in asks if one is not None]
    assert not rids[1].startswith(rids[0])


def test_salts_are_digests_with_the_clusters_secret():
    salts = [
        sent(request(scope=scope), secret=secret).get("cache_salt")
        for secret, scope in (
            ("one", RequestScope(salt="hush")),
            ("two", RequestScope(salt="hush")),
            ("one", RequestScope(tenant="t")),
            ("one", RequestScope()),
        )
    ]
    assert salts[3] is None
    assert len(set(salts)) == 4
    assert "hush" not in str(salts)


def test_a_request_for_a_rank_names_it_by_both_its_names():
    assert "routed_dp_rank" not in sent(request())
    body = json.loads(SglangDialect().call(request(), "c1", "smol", rank=1).body)
    assert (body["routed_dp_rank"], body["data_parallel_rank"]) == (1, 1)
    said = SglangDialect().statement(answers("models", "info-ranks"), "h")
    assert (said.ranks, said.kv_blocks) == (2, 2 * 256)
