"""One row of a log of chats: its messages in order, and when they were written.

Owns the names that such logs use: ShareGPT's `conversations` of `from` and `value`, WildChat's
`conversation` of `role` and `content`, and `messages` as OpenAI's clients write them. Errors never
hold what a message says.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.reading.times import UNITS, date_unit_of
from radixroute.request.chat import ChatMessage

_ROLES = {
    **dict.fromkeys(("user", "human", "prompter"), "user"),
    **dict.fromkeys(("assistant", "gpt", "chatgpt", "bing", "bard", "model"), "assistant"),
    "system": "system",
    "developer": "developer",
    **dict.fromkeys(("tool", "function", "observation", "function_response"), "tool"),
}
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)


class _Said(msgspec.Struct):
    role: str | None = None
    sender: str | None = msgspec.field(default=None, name="from")
    content: Any = None
    value: Any = None
    text: Any = None
    timestamp: Any = None


class _Row(msgspec.Struct):
    conversations: list[_Said] | None = None
    conversation: list[_Said] | None = None
    messages: list[_Said] | None = None
    items: list[_Said] | None = None
    timestamp: Any = None


_ROW = msgspec.json.Decoder(_Row)


@dataclass(frozen=True, slots=True)
class LoggedChat:
    """One conversation."""

    messages: tuple[ChatMessage, ...]
    at_ns: tuple[int | None, ...]  # when each was written, since 1970; None: not said
    row_ns: int | None  # the row's own time


def logged_chat(line: bytes) -> LoggedChat:
    """Raises `BadTrace`."""
    try:
        row = _ROW.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise BadTrace(str(broken)) from broken
    said = next(
        (
            x
            for x in (row.conversations, row.conversation, row.messages, row.items)
            if x is not None
        ),
        None,
    )
    if said is None:
        raise BadTrace("it has no conversations, conversation or messages")
    return LoggedChat(
        tuple(_message(one) for one in said),
        tuple(_time(one.timestamp) for one in said),
        _time(row.timestamp),
    )


def _message(said: _Said) -> ChatMessage:
    name = said.role or said.sender or ""
    role = _ROLES.get(name.lower())
    if role is None:
        raise BadTrace("a message is from nobody known (human, gpt, user, assistant, system, tool)")
    return ChatMessage(role, _text(next((x for x in _texts(said) if x is not None), "")))


def _texts(said: _Said) -> tuple[Any, Any, Any]:
    return said.content, said.value, said.text


def _text(content: Any) -> str:
    """Text, or parts that are text."""
    if isinstance(content, str):
        return content
    texts: list[str] = []
    for part in content if isinstance(content, list) else [content]:
        text = part.get("text") if isinstance(part, dict) else part
        if not isinstance(text, str):
            raise BadTrace("a message is not text alone (a picture, a call of a tool)")
        texts.append(text)
    return "".join(texts)


def _time(value: Any) -> int | None:
    """A date as ISO 8601 (UTC unless it says otherwise), or a number that is one."""
    if value is None:
        return None
    if isinstance(value, str):
        try:
            moment = datetime.fromisoformat(value)
        except ValueError as broken:
            raise BadTrace("its timestamp is no date") from broken
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        return (moment - _EPOCH) // _MICROSECOND * 1000
    if isinstance(value, int | float):
        unit = date_unit_of(value)
        if unit is not None:
            return round(value * UNITS[unit])
    raise BadTrace("its timestamp is no date")
