"""The dialect of servers that have no more than OpenAI's API, and how servers are told apart."""

import json

import numpy as np
import pytest
import tokenizers
from tokenizers import decoders, models, pre_tokenizers

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.tokenizer import TOKENIZER_FILE, Tokenizer
from radixroute.worker.companions.dialects.detecting import dialect_of
from radixroute.worker.companions.dialects.dialect import Answer, Heard
from radixroute.worker.companions.dialects.openai import OpenAiDialect
from radixroute.worker.companions.join.findings import JoinRefused
from radixroute.worker.companions.listening import NO_TOKENS, Listening
from radixroute.worker.companions.texts import Texts
from radixroute.worker.engine.engine import EngineRequest
from tests.engines import test_sglang_dialect, test_vllm_dialect
from tests.worker.fakes import make_tokenizer

EOS = 0


def merging_tokenizer():
    """All bytes, and what \" the\" is put together from."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    pieces = ["<eos>", *alphabet, "th", "the", "\u0120th", "\u0120the"]
    merges = [("t", "h"), ("th", "e"), ("\u0120", "th"), ("\u0120th", "e")]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    backend = tokenizers.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    return Tokenizer({TOKENIZER_FILE: backend.to_str().encode()})


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


def chunk(finish=None, **choice):
    said = {"choices": [{"index": 0, "finish_reason": finish, **choice}]}
    return b"data: " + json.dumps(said).encode() + b"\n\n"


def usage(cached):
    told = {"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": cached}}}
    return b"data: " + json.dumps(told).encode() + b"\n\ndata: [DONE]\n\n"


def heard(*lines):
    reader = OpenAiDialect().reader(None, {EOS})
    return [one for line in lines for one in reader.feed(line)] + reader.end()


def test_without_ids_its_texts_are_told_and_the_end_has_none():
    found = heard(chunk(text="The"), chunk(text=" end", finish="stop"), usage(32))
    assert [one.text for one in found] == ["The", " end", ""]
    assert [one.token_ids for one in found] == [(), (), ()]
    assert (found[-1].finish, found[-1].cached_tokens) == (FinishReason.STOP, 32)


def test_ids_are_taken_where_they_come_and_no_text_beside_them():
    found = heard(
        chunk(text="The", token_ids=[5]), chunk(text="?"), chunk("length", token_ids=[6]), usage(0)
    )
    assert [(one.token_ids, one.text) for one in found] == [((5,), ""), ((6,), "")]
    assert found[-1].finish is FinishReason.LENGTH


def test_a_last_token_that_ends_nothing_stays_text():
    for last, found in (
        (EOS, [((5,), None), ((EOS,), FinishReason.STOP)]),
        (7, [((5,), None), ((7,), None), ((), FinishReason.STOP)]),
    ):
        told = heard(chunk(token_ids=[5]), chunk("stop", token_ids=[last]), usage(0))
        assert [(one.token_ids, one.finish) for one in told] == found


@pytest.mark.parametrize(
    ("error", "finish"),
    [
        ({"type": "invalid_request_error", "code": None}, FinishReason.INVALID),
        ({"type": "x", "code": 400}, FinishReason.INVALID),
        ({"type": "server_error", "code": None}, FinishReason.ABORT),
        ({"code": "context_length"}, FinishReason.ABORT),
        ({"code": 503}, FinishReason.ABORT),
    ],
)
def test_what_errors_in_a_stream_mean(error, finish):
    line = b"data: " + json.dumps({"error": {"message": "2048", **error}}).encode() + b"\n\n"
    last = heard(chunk(text="a"), line)[-1]
    assert last.finish is finish
    assert "2048" not in last.error


@pytest.mark.parametrize(
    ("status", "finish"),
    [
        (400, FinishReason.INVALID),
        (404, FinishReason.ERROR),
        (429, FinishReason.FULL),
        (500, FinishReason.ABORT),
        (503, FinishReason.FULL),
    ],
)
def test_what_refusals_mean(status, finish):
    assert OpenAiDialect().refusal(status, b"").finish is finish


def test_only_what_the_api_has_is_sent():
    plain = json.loads(OpenAiDialect().call(request(), "c1", "m").body)
    assert plain == {
        "model": "m",
        "prompt": [1, 2, 3, 4, 5],
        "stream": True,
        "stream_options": {"include_usage": True},
        "return_token_ids": True,
        "max_tokens": 9,
        "temperature": 1.0,
        "top_p": 1.0,
        "seed": 0,
    }
    more = {"presence_penalty": 0.5, "frequency_penalty": 0.1, "logit_bias": ((3, 1.5),)}
    added = json.loads(OpenAiDialect().call(request(**more), "c1", "m").body)
    assert {name: added[name] for name in set(added) - set(plain)} == {
        "presence_penalty": 0.5,
        "frequency_penalty": 0.1,
        "logit_bias": {"3": 1.5},
    }


def test_its_proof_is_one_token():
    proof = OpenAiDialect().proof("m")
    assert proof is not None
    body = json.loads(proof.body)
    assert (proof.path, body["max_tokens"], body["model"]) == ("/v1/completions", 1, "m")
    assert "stream" not in body


@pytest.mark.parametrize(
    "asked",
    [
        {"top_k": 4},
        {"min_p": 0.1},
        {"repetition_penalty": 1.1},
        {"min_tokens": 2},
        {"stop_token_ids": (4,)},
        {"ignore_eos": True},
        {"logprobs": 0},
    ],
)
def test_what_it_lacks_is_refused_by_its_name(asked):
    (name,) = asked
    assert OpenAiDialect().refuses(request(**asked)).startswith(name)
    assert OpenAiDialect().refuses(request(stop=("x",), seed=4, top_p=0.5)) == ""


def test_each_kind_of_server_is_known_by_what_it_answers():
    def kind(answers):
        return dialect_of(answers, "").kind

    vllm = test_vllm_dialect.facts()
    sglang = test_sglang_dialect.answers("models", "info")
    plain = {"/v1/models": Answer(200, b'{"data":[{"id":"m","owned_by":"me"}]}')}
    assert [kind(one) for one in (vllm, sglang, plain)] == ["vllm", "sglang", "openai"]
    # Behind a proxy that gives its own list of models the other pages say it.
    assert kind(vllm | plain) == "vllm"
    assert kind(sglang | plain) == "sglang"
    assert kind(test_vllm_dialect.facts("metrics", "version")) == "vllm"
    assert kind({}) == "openai"
    with pytest.raises(JoinRefused):
        kind({"/v1/models": Answer(401)})


def test_texts_become_tokens_of_the_same_bytes():
    tokenizer = merging_tokenizer()
    texts = Texts(tokenizer)
    for text in ("a", " the", "the the", "\u65e5\u672c \U0001f44d", " th\n e", ""):
        assert tokenizer.decode(list(texts.ids(text))) == text
    # A piece as long as a token is that token, wherever it stands.
    assert [len(texts.ids(piece)) for piece in ("the", " the", " th", "xthe")] == [1, 1, 1, 2]


def test_a_text_that_no_token_makes_ends_its_answer():
    told: list[Heard] = []
    dialect = OpenAiDialect()
    listening = Listening(
        dialect.reader(None, {EOS}), dialect.refusal, told.append, Texts(make_tokenizer())
    )
    listening.head(200, "text/event-stream")
    listening.body(chunk(text="a") + chunk(text="\u65e5") + chunk(text="b", finish="stop"))
    listening.ended()
    assert [one.finish for one in told] == [None, FinishReason.ERROR]
    assert told[-1].error == NO_TOKENS
