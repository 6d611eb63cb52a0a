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
from radixroute.request.limits import Limits, validate_length, validate_n_messages
from radixroute.request.pacing import Pause
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import messages_from_proto


class Form(StrEnum):
    """What the bytes are."""

    TEXT = "text"  # UTF-8
    CHAT = "chat"  # a `ChatMessages`


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


_Reader: TypeAlias = Callable[[bytes, Tokenizer, Limits, Pause], Tokens]
_READERS: dict[Form, _Reader] = {Form.TEXT: _text, Form.CHAT: _chat}
