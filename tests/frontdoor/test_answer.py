"""What a client may give: clear errors for the rest, and nothing is bent into shape."""

from typing import Any

import numpy as np
import pytest

from radixroute.answer import RawText, Routing, request_of
from radixroute.errors import BadInput
from radixroute.request.chat import ChatMessage
from radixroute.request.limits import PartialSampling
from radixroute.request.wire import unpack_tokens


def made(prompt: Any, sampling: PartialSampling | None = None) -> Any:
    return request_of(prompt, sampling)


@pytest.mark.parametrize(
    "ids", [[1, 2, 3], (1, 2, 3), range(1, 4), np.array([1, 2, 3]), np.array([1, 2, 3], np.uint32)]
)
def test_token_ids_may_come_as_any_row_of_whole_numbers(ids):
    assert unpack_tokens(made(ids).token_ids).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    "prompt",
    [
        np.array([1, 2**40], np.int64),
        np.array([-1, 2]),
        np.array([1.5, 2]),
        np.array([[1, 2], [3, 4]], np.uint32),
        [1, "a"],
        b"hi",
        None,
        [ChatMessage("user", "hi"), 3],
        RawText(b"hi"),  # type: ignore[arg-type]
    ],
    ids=repr,
)
def test_what_is_no_prompt_is_refused_and_never_bent(prompt):
    with pytest.raises(BadInput):
        made(prompt)


@pytest.mark.parametrize(
    "prompt", [[], (), np.array([], np.uint32), "", " \n", RawText("")], ids=repr
)
def test_an_empty_prompt_is_told_as_such(prompt):
    with pytest.raises(BadInput, match="the prompt is empty") as raised:
        made(prompt)
    assert "messages" not in str(raised.value)


@pytest.mark.parametrize("prompt", ["a\ud800", [ChatMessage("user", "\udfff")]], ids=repr)
def test_text_that_cannot_be_sent_is_refused(prompt):
    with pytest.raises(BadInput, match="Unicode"):
        made(prompt)


@pytest.mark.parametrize(
    "wrong", [{"max_tokens": -1}, {"max_tokens": 2**40}, {"temperature": "x"}, {"stop": "abc"}]
)
def test_sampling_that_has_no_place_on_the_wire_is_refused(wrong: dict[str, Any]):
    with pytest.raises(BadInput):
        made("hi", PartialSampling(**wrong))


def test_how_a_request_wants_to_be_treated_travels_whole_and_unset_stays_unset():
    wanted = request_of("hello", None, Routing("radix", "chat 1", "tiny", "a team", 0, "s", "l"))
    assert (wanted.policy, wanted.session_key, wanted.model) == ("radix", "chat 1", "tiny")
    assert (wanted.tenant, wanted.priority, wanted.HasField("priority")) == ("a team", 0, True)
    assert (wanted.cache_salt, wanted.lora) == ("s", "l")
    assert not request_of("hello", None).HasField("priority")
    with pytest.raises(BadInput, match="priority"):
        request_of("hello", None, Routing(priority=-1))
