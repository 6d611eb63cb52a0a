"""Verbatim body: what a client sent that only another's engine understands, to be handed on.

Pure; never quotes a value. Bytes stay as they came unless a field must go that reaches into an
engine; then the other values stay as they are. What can be told of it here is told without being
sure: the engine judges.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TypeVar

import msgspec

from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import SamplingParams
from radixroute.request.verbatim.bodies import body_of, fields_of
from radixroute.request.verbatim.records import PATHS, Verbatim
from radixroute.router.api.giants.forms import Form
from radixroute.router.api.http.asked.bodies import Body, read_own, read_typed
from radixroute.router.api.http.asked.fields import (
    OURS_WHEN_ALLOWED,
    dropped,
    leaves_prompt,
    spoken_in,
)
from radixroute.router.api.http.asked.parts import guessed_tokens, is_plain, is_text

_CHAT_PATH, _COMPLETION_PATH = PATHS
# What else is written into the prompt of a chat.
_IN_CHATS = ("messages", "tools", "functions", "documents")
# Bytes of a body whose prompt is to be known before it goes on.
MOST_LOOKED_AT = 1024 * 1024
_STR, _INT = msgspec.json.Decoder(str), msgspec.json.Decoder(int)
_BOOL = msgspec.json.Decoder(bool)
_MOST_TOKENS = 1 << 31
_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class VerbatimBody:
    """A body as it goes on."""

    verbatim: Verbatim
    model: str  # empty: none named
    prompt_cache_key: str
    n_dropped: int  # fields that clients may not set
    # Of clients that may set them.
    cache_salt: str = field(repr=False)
    priority: int | None
    sampling: SamplingParams  # as far as it says how long the answer may be
    is_stream: bool  # its client asked for one
    renders: bool  # its prompt is text, so that its tokens name it
    # What was understood, and its one prompt, where that can be read here; None: it cannot.
    readable: tuple[Body, Form, bytes] | None = field(repr=False)


def read_verbatim(data: bytes, *, is_chat: bool, allowed: frozenset[str]) -> VerbatimBody:
    """Raises InvalidRequest for what is no JSON object. `allowed`: as for `read_body`."""
    fields = fields_of(data)
    out = dropped(fields, allowed)
    ours = out | (OURS_WHEN_ALLOWED & fields.keys())
    kept = {name: value for name, value in fields.items() if name not in ours}
    salt, priority = read_own(fields, allowed)
    parts = _IN_CHATS if is_chat else ("prompt",)
    is_looked_at = len(data) <= MOST_LOOKED_AT
    most = (_told(_INT, kept, name) for name in ("max_completion_tokens", "max_tokens"))
    return VerbatimBody(
        verbatim=Verbatim(
            _CHAT_PATH if is_chat else _COMPLETION_PATH,
            body_of(kept) if ours else data,
            guessed_tokens(*(kept[name] for name in parts if name in kept)),
        ),
        model=_told(_STR, kept, "model") or "",
        prompt_cache_key=_told(_STR, kept, "prompt_cache_key") or "",
        n_dropped=len(out),
        cache_salt=salt,
        priority=priority,
        sampling=_sampling(next((n for n in most if n is not None), None)),
        is_stream=_told(_BOOL, kept, "stream") or False,
        renders=is_looked_at and (not is_chat or is_text(kept.get("messages", b""))),
        readable=_readable(kept, is_chat=is_chat) if is_looked_at else None,
    )


def _readable(kept: Mapping[str, bytes], *, is_chat: bool) -> tuple[Body, Form, bytes] | None:
    """Its prompt would be the same without what is not done here."""
    if not leaves_prompt(kept, spoken_in(is_chat=is_chat)):
        return None
    try:
        body, prompts = read_typed(kept, is_chat=is_chat)
    except InvalidRequest:
        return None  # its engine may see nothing wrong in it
    if len(prompts) != 1 or (is_chat and not is_plain(prompts[0][1])):
        return None
    return (body, *prompts[0])


def _sampling(max_tokens: int | None) -> SamplingParams:
    if max_tokens is None or not 0 < max_tokens < _MOST_TOKENS:
        return SamplingParams()
    return SamplingParams(max_tokens=max_tokens)


def _told(decoder: "msgspec.json.Decoder[_T]", fields: Mapping[str, bytes], name: str) -> _T | None:
    """None: not given, or something else."""
    value = fields.get(name)
    try:
        return None if value is None else decoder.decode(value)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        return None
