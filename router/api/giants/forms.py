"""Forms in which doors have a prompt, as bytes, and how each becomes tokens.

Pure. A door that cuts giant prompts out of its messages names one of them.
"""

import datetime
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial

import msgspec
from google.protobuf.message import DecodeError

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Tokens
from radixroute.request.chat import NO_DATE, ChatMessage
from radixroute.request.encoding import Recall
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    Limits,
    validate_length,
    validate_n_messages,
    validate_text_size,
)
from radixroute.request.pacing import Pause, no_pause
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


class Reading(msgspec.Struct, frozen=True, eq=False):
    """What a prompt is read with."""

    tokenizer: Tokenizer
    limits: Limits
    pause: Pause = no_pause  # called now and then; may raise
    recall: Recall | None = None  # what is known of its pieces
    today: datetime.date = NO_DATE  # what a chat template that asks prints

    def text(self, text: str) -> Tokens:
        check = partial(validate_length, limits=self.limits)
        return self.tokenizer.encode(text, check=check, pause=self.pause, recall=self.recall)

    def chat(self, messages: Iterable[ChatMessage]) -> Tokens:
        check = partial(validate_length, limits=self.limits)
        return self.tokenizer.encode_chat(
            messages, today=self.today, check=check, pause=self.pause, recall=self.recall
        )


def read(form: str, data: bytes, reading: Reading) -> Tokens:
    """Raises `InvalidRequest`, and what `pause` raises."""
    return _READERS[Form(form)](data, reading)


def _text(data: bytes, reading: Reading) -> Tokens:
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise InvalidRequest("prompt", "is no UTF-8: it cannot be parsed") from None
    return reading.text(text)


def _chat(data: bytes, reading: Reading) -> Tokens:
    try:
        chat = pb.ChatMessages.FromString(data)
    except DecodeError:
        raise InvalidRequest("messages", "are no ChatMessages: they cannot be parsed") from None
    validate_n_messages(len(chat.messages), reading.limits)
    return reading.chat(messages_from_proto(chat))


def _json_text(data: bytes, reading: Reading) -> Tokens:
    text = text_of(data)
    if len(data) > reading.limits.max_prompt_bytes:
        validate_text_size(len(text.encode()), reading.limits)
    return reading.text(text)


def _json_ids(data: bytes, reading: Reading) -> Tokens:
    return ids_of(data)


def _json_chat(data: bytes, reading: Reading) -> Tokens:
    messages, limits = messages_of(data, reading.pause), reading.limits
    validate_n_messages(len(messages), limits)
    if len(data) > limits.max_prompt_bytes:
        validate_text_size(sum(len(one.content.encode()) for one in messages), limits)
    return reading.chat(messages)


_READERS: dict[Form, Callable[[bytes, Reading], Tokens]] = {
    Form.TEXT: _text,
    Form.CHAT: _chat,
    Form.JSON_TEXT: _json_text,
    Form.JSON_IDS: _json_ids,
    Form.JSON_CHAT: _json_chat,
}
