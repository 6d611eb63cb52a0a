"""Forms in which doors have a prompt, as bytes, and how each becomes tokens.

Pure. A door that cuts giant prompts out of its messages names one of them.
"""

from collections.abc import Callable
from enum import StrEnum
from functools import partial
from typing import TypeAlias

from google.protobuf.message import DecodeError

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    Limits,
    validate_length,
    validate_n_messages,
    validate_text_size,
)
from radixroute.request.pacing import Pause
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import messages_from_proto
from radixroute.router.api.giants.json_prompts import ids_of, messages_of, text_of


class Form(StrEnum):
    """What the bytes are."""

    TEXT = "text"  # UTF-8
    CHAT = "chat"  # a `ChatMessages`
    JSON_TEXT = "json_text"  # a string
    JSON_IDS = "json_ids"  # a list of token ids
    JSON_CHAT = "json_chat"  # a list of messages as OpenAI's API has them


def read(form: str, data: bytes, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    """Raises `InvalidRequest`, and what `pause` raises."""
    return _READERS[Form(form)](data, tokenizer, limits, pause)


def text_tokens(text: str, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    return tokenizer.encode(text, check=partial(validate_length, limits=limits), pause=pause)


def chat_tokens(
    chat: pb.ChatMessages, tokenizer: Tokenizer, limits: Limits, pause: Pause
) -> Tokens:
    check = partial(validate_length, limits=limits)
    return tokenizer.encode_chat(messages_from_proto(chat), check=check, pause=pause)


def _text(data: bytes, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("prompt", "is no UTF-8: it cannot be parsed") from None
    return text_tokens(text, tokenizer, limits, pause)


def _chat(data: bytes, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    try:
        chat = pb.ChatMessages.FromString(data)
    except DecodeError:
        raise InvalidRequest("messages", "are no ChatMessages: they cannot be parsed") from None
    validate_n_messages(len(chat.messages), limits)
    return chat_tokens(chat, tokenizer, limits, pause)


def _json_text(data: bytes, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    text = text_of(data)
    if len(data) > limits.max_prompt_bytes:
        validate_text_size(len(text.encode()), limits)
    return text_tokens(text, tokenizer, limits, pause)


def _json_ids(data: bytes, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    return ids_of(data)


def _json_chat(data: bytes, tokenizer: Tokenizer, limits: Limits, pause: Pause) -> Tokens:
    messages = messages_of(data, pause)
    validate_n_messages(len(messages), limits)
    if len(data) > limits.max_prompt_bytes:
        validate_text_size(sum(len(one.content.encode()) for one in messages), limits)
    check = partial(validate_length, limits=limits)
    return tokenizer.encode_chat(messages, check=check, pause=pause)


_Reader: TypeAlias = Callable[[bytes, Tokenizer, Limits, Pause], Tokens]
_READERS: dict[Form, _Reader] = {
    Form.TEXT: _text,
    Form.CHAT: _chat,
    Form.JSON_TEXT: _json_text,
    Form.JSON_IDS: _json_ids,
    Form.JSON_CHAT: _json_chat,
}
