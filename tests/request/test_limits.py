"""What a request may ask for, and that every refusal says which field and what to do."""

import pickle
from typing import Any

import numpy as np
import pytest

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    MAX_ADAPTER_LEN,
    MAX_SALT_LEN,
    Limits,
    PartialSampling,
    complete,
    validate_n,
    validate_prompt,
    validate_sampling,
    validate_scope,
    validate_text_size,
)
from radixroute.request.sampling import SamplingParams

LIMITS = Limits(max_model_len=100, vocab_size=50)


def fill(prompt_len=10, **given):
    return complete(PartialSampling(**given), LIMITS, prompt_len=prompt_len, seed=7)


def tokens(*ids):
    return np.array(ids, dtype=np.uint32)


def test_what_a_client_leaves_out_is_filled_in():
    assert fill(stop=("x",)) == SamplingParams(
        temperature=1.0, top_p=1.0, top_k=0, seed=7, max_tokens=90, min_tokens=0, stop=("x",)
    )


def test_what_a_client_gives_is_kept():
    given: dict[str, Any] = {
        "temperature": 0.0,
        "top_p": 0.5,
        "top_k": 3,
        "seed": 0,
        "max_tokens": 5,
        "min_tokens": 2,
        "stop_token_ids": (4,),
        "ignore_eos": True,
    }
    assert fill(**given) == SamplingParams(**given)


def test_defaults_are_those_the_wire_names():
    wide = Limits(max_model_len=10_000, vocab_size=50)
    sampling = complete(PartialSampling(), wide, prompt_len=1, seed=0)
    assert sampling.max_tokens == 256
    assert sampling == SamplingParams()


def test_max_tokens_is_cut_to_what_the_model_has_room_for():
    assert fill(prompt_len=95, max_tokens=50).max_tokens == 5
    assert fill(prompt_len=99).max_tokens == 1


@pytest.mark.parametrize(
    ("field", "given"),
    [
        ("temperature", {"temperature": -0.1}),
        ("temperature", {"temperature": float("nan")}),
        ("temperature", {"temperature": float("inf")}),
        ("temperature", {"temperature": 1e-9}),
        ("top_p", {"top_p": 0.0}),
        ("top_p", {"top_p": 1.01}),
        ("top_p", {"top_p": float("nan")}),
        ("top_k", {"top_k": -1}),
        ("seed", {"seed": -1}),
        ("seed", {"seed": 2**64}),
        ("max_tokens", {"max_tokens": 0}),
        ("min_tokens", {"min_tokens": -1}),
        ("min_tokens", {"min_tokens": 6, "max_tokens": 5}),
        ("min_tokens", {"min_tokens": 91}),
        ("stop", {"stop": ("",)}),
        ("stop", {"stop": ("s",) * 17}),
        ("stop", {"stop": ("s" * 257,)}),
        ("stop_token_ids", {"stop_token_ids": (50,)}),
        ("stop_token_ids", {"stop_token_ids": (-1,)}),
        ("stop_token_ids", {"stop_token_ids": (1,) * 65}),
        ("presence_penalty", {"presence_penalty": 2.1}),
        ("frequency_penalty", {"frequency_penalty": float("nan")}),
        ("repetition_penalty", {"repetition_penalty": 0.0}),
        ("repetition_penalty", {"repetition_penalty": float("inf")}),
        ("min_p", {"min_p": -0.1}),
        ("min_p", {"min_p": float("nan")}),
        ("logprobs", {"logprobs": 21}),
        ("logit_bias", {"logit_bias": ((50, 1.0),)}),
        ("logit_bias", {"logit_bias": ((4, float("nan")),)}),
        ("logit_bias", {"logit_bias": ((4, 1.0),) * 1025}),
    ],
)
def test_a_bad_value_is_refused_by_name(field, given):
    with pytest.raises(InvalidRequest) as caught:
        fill(**given)
    assert caught.value.field == field
    assert str(caught.value) == f"{field}: {caught.value.message}"


@pytest.mark.parametrize(
    "edge",
    [
        {"temperature": 0.001},
        {"top_p": 1.0},
        {"seed": 2**64 - 1},
        {"max_tokens": 1},
        {"min_tokens": 90},
        {"stop": ("s" * 256,) * 16},
        {"stop_token_ids": (49,) * 64},
        {"presence_penalty": -2.0, "frequency_penalty": 2.0, "repetition_penalty": 2.0},
        {"min_p": 1.0, "logprobs": 20, "logit_bias": ((49, -100.0), (0, 100.0))},
    ],
)
def test_the_edge_of_a_range_is_accepted(edge):
    fill(**edge)


def test_a_worker_does_not_trust_a_router_with_lengths():
    with pytest.raises(InvalidRequest, match="room for 10"):
        validate_sampling(SamplingParams(max_tokens=11), LIMITS, prompt_len=90)


@pytest.mark.parametrize(
    ("prompt", "says"),
    [
        (tokens(), "empty"),
        (tokens(*[1] * 100), "at most 99"),
        (tokens(1, 50), "below 50"),
    ],
    ids=["empty", "too long", "id out of range"],
)
def test_a_prompt_that_cannot_run_is_refused(prompt, says):
    with pytest.raises(InvalidRequest, match=says) as caught:
        validate_prompt(prompt, LIMITS)
    assert caught.value.field == "prompt"


def test_a_prompt_may_leave_room_for_just_one_token():
    validate_prompt(tokens(*[49] * 99), LIMITS)


def test_text_is_weighed_before_it_is_parsed():
    small = Limits(max_model_len=100, vocab_size=50, max_prompt_bytes=10)
    validate_text_size(10, small)
    with pytest.raises(InvalidRequest, match="at most 10"):
        validate_text_size(11, small)


@pytest.mark.parametrize(("name", "field"), [("salt", "cache_salt"), ("lora", "lora")])
def test_a_salt_and_an_adapter_are_bounded_and_never_shown(name, field):
    most = {"salt": MAX_SALT_LEN, "lora": MAX_ADAPTER_LEN}[name]
    validate_scope(RequestScope(**{name: "q" * most}))
    with pytest.raises(InvalidRequest, match=f"at most {most}") as caught:
        validate_scope(RequestScope(**{name: "q" * (most + 1)}))
    assert caught.value.field == field
    assert "qq" not in str(caught.value)


def test_a_refusal_survives_the_pipe_between_processes():
    error = pickle.loads(pickle.dumps(InvalidRequest("top_p", "is 2")))
    assert (error.field, error.message) == ("top_p", "is 2")


def test_as_many_answers_as_are_allowed():
    assert [validate_n(n) for n in (None, 1, 8)] == [1, 1, 8]
    for n in (0, 9):
        with pytest.raises(InvalidRequest, match="use 1 to 8"):
            validate_n(n)
