"""Prompts of OpenAI's API as JSON: texts, token ids and chats. Pure; never quotes a prompt.

The bytes are a part of a body as it came; nothing of it was looked at but its first character.
"""

import re
from collections.abc import Iterator
from functools import cache
from typing import Annotated, Any, TypeVar

import msgspec
import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import InvalidRequest
from radixroute.request.pacing import MESSAGES_A_TURN, Pause, in_turns

TokenId = Annotated[int, msgspec.Meta(ge=0, lt=1 << 32)]
# What msgspec says of a value, without the value.
_WRONG_TYPE = re.compile(r"^Expected `([^`]*)`, got `([^`]*)`")
_PLACE = re.compile(r"at `\$\[(\d+)\]")
T = TypeVar("T")


class Part(msgspec.Struct):
    """A part of a message's content."""

    type: str
    text: str | None = None


class Message(msgspec.Struct):
    """One of a chat. Names of who speaks and what other servers add is not read by templates."""

    role: str
    content: str | list[Part] | None = None
    tool_calls: msgspec.Raw = msgspec.Raw()
    function_call: msgspec.Raw = msgspec.Raw()
    audio: msgspec.Raw = msgspec.Raw()


_TEXT = msgspec.json.Decoder(str)
_IDS = msgspec.json.Decoder(list[TokenId])
_MESSAGES = msgspec.json.Decoder(list[Message])
_NOTHING = (b"", b"null", b"[]")


def text_of(data: bytes) -> str:
    """Raises InvalidRequest."""
    return read_json(_TEXT, data, "prompt")


def ids_of(data: bytes) -> Tokens:
    """The same, of a list of token ids. O(bytes), some 3 ns each."""
    ids = np.empty(len(data) // 2 + 1, np.uint32)
    n_ids = reader_of_ids()(np.frombuffer(data, np.uint8), ids)
    if n_ids >= 0:
        return ids[:n_ids].copy()
    return np.array(read_json(_IDS, data, "prompt"), np.uint32)


@cache
def reader_of_ids() -> Any:
    """Its kernel, at first use: numba takes 0.5 s to import."""
    from radixroute.radix.jit import entry_point
    from radixroute.router.api.giants.ids_kernels import read_ids

    return entry_point(read_ids)


def messages_of(data: bytes, pause: Pause) -> list[ChatMessage]:
    """A conversation, oldest message first."""
    messages = read_json(_MESSAGES, data, "messages")
    return list(_plain(in_turns(messages, MESSAGES_A_TURN, pause)))


def read_json(decoder: "msgspec.json.Decoder[T]", data: bytes, field: str) -> T:
    """Raises InvalidRequest that names the field, and where in it."""
    try:
        return decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        raise InvalidRequest(field, what_is_wrong(error)) from None


def what_is_wrong(error: Exception) -> str:
    """Of a value that is not what it should be; nothing of the value itself."""
    text = str(error)
    kinds, place = _WRONG_TYPE.search(text), _PLACE.search(text)
    at = f"number {int(place[1]) + 1} of it " if place else ""
    if kinds is None:
        return f"{at}cannot be read: it is no such value"
    return f"{at}has the wrong type: {kinds[1]} is expected, not {kinds[2]}"


def _plain(messages: Iterator[Message]) -> Iterator[ChatMessage]:
    for number, one in enumerate(messages, start=1):
        for name in ("tool_calls", "function_call", "audio"):
            if bytes(getattr(one, name)).strip() not in _NOTHING:
                raise InvalidRequest(
                    "messages", f"number {number} has {name}: the engines here do not read them"
                )
        yield ChatMessage(one.role, _content(one.content, number))


def _content(content: str | list[Part] | None, number: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content
    if any(part.type != "text" or part.text is None for part in content):
        raise InvalidRequest(
            "messages", f"number {number} has a part that is no text: the engines here read text"
        )
    return "\n".join(part.text or "" for part in content)
