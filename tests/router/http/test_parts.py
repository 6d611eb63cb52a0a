"""Whether a chat is text alone, by its bytes."""

import json
from typing import Any

import pytest

from radixroute.router.api.http.asked.parts import PART_TOKENS, guessed_tokens, is_plain, is_text

TEXT = {"type": "text", "text": 'say "type": "image_url", or "tool_calls": [1]'}
PICTURE = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 40_000}}
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}

PLAIN: list[dict[str, Any]] = [
    {"role": "user", "content": TEXT["text"]},
    {"role": "user", "content": [TEXT, TEXT]},
    {"role": "user", "content": "type", "name": "audio"},
    {"role": "assistant", "content": "x", "tool_calls": None, "function_call": None},
    {"role": "assistant", "content": "x", "tool_calls": [], "audio": None},
]
SPOKEN: list[dict[str, Any]] = [
    {"role": "assistant", "content": None, "tool_calls": [CALL]},
    {"role": "assistant", "function_call": {"name": "f"}},
    {"role": "tool", "tool_call_id": "1", "content": "x"},
]
SEEN: list[dict[str, Any]] = [
    {"role": "user", "content": [TEXT, PICTURE]},
    {"role": "user", "content": [{"type": "input_audio"}]},
    {"role": "user", "content": [{"text": "x", "type": None}]},
]


@pytest.mark.parametrize("indent", [None, 2])
def test_what_is_text_and_what_is_not(indent):
    def data(one: dict[str, Any]) -> bytes:
        return json.dumps([{"role": "user", "content": "x"}, one], indent=indent).encode()

    assert all(is_plain(data(one)) and is_text(data(one)) for one in PLAIN)
    assert not any(is_plain(data(one)) for one in [*SPOKEN, *SEEN])
    assert all(is_text(data(one)) for one in SPOKEN)
    assert not any(is_text(data(one)) for one in SEEN)


def test_a_picture_is_guessed_by_its_kind_and_text_by_its_bytes():
    text = json.dumps([TEXT] * 100).encode()
    assert guessed_tokens(text) == len(text) // 4
    both = json.dumps([*[TEXT] * 100, PICTURE, PICTURE]).encode()
    assert 0 < guessed_tokens(both) - guessed_tokens(text) - 2 * PART_TOKENS < 100
    assert guessed_tokens() == guessed_tokens(b"") == 1
    assert guessed_tokens(b'["data:torn') > 0
