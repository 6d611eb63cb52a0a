"""Bodies: what a client of this door sent, its prompts still as bytes.

Pure. A body is looked at once for its fields' names and once for those spoken here. Never quotes a
value.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar, TypeVar

import msgspec

from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import MAX_PROMPT_BYTES, validate_n
from radixroute.request.verbatim.bodies import body_of, fields_of
from radixroute.router.api.giants.forms import Form
from radixroute.router.api.giants.json_prompts import read_json, what_is_wrong
from radixroute.router.api.http.asked.fields import (
    OURS_WHEN_ALLOWED,
    NotSpoken,
    are_plain,
    check_fields,
    dropped,
    spoken_in,
)
from radixroute.router.api.http.asked.parts import plain_pieces

COMPLETION_MAX_TOKENS = 16  # as OpenAI's API and vLLM have it; a chat gets all that fits
ALL_THAT_FITS = (1 << 32) - 1  # of a field of the wire
MOST_PROMPTS = 8  # in one completion, and answers to all of them together
ESCAPED = 6  # bytes of JSON that one character may take

_FIELD = re.compile(r"at `\$\.([a-z_]{1,32})")


class StreamOptions(msgspec.Struct):
    """What a stream tells beside text."""

    include_usage: bool | None = None
    continuous_usage_stats: bool | None = None


class _Body(msgspec.Struct):
    """What chats and completions share. None: not given."""

    model: str | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: str | list[str] | None = None
    stop_token_ids: list[int] | None = None
    ignore_eos: bool | None = None
    n: int | None = None
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    logit_bias: dict[str, float] | None = None
    prompt_cache_key: str | None = None

    is_chat: ClassVar[bool] = False

    @property
    def wanted_tokens(self) -> int:
        return COMPLETION_MAX_TOKENS if self.max_tokens is None else self.max_tokens

    @property
    def top_logprobs_wanted(self) -> int | None:
        """None: no log probabilities at all."""
        return None


class CompletionBody(_Body):
    """Of POST /v1/completions, without its prompt."""

    logprobs: int | None = None

    @property
    def top_logprobs_wanted(self) -> int | None:
        return self.logprobs


class ChatBody(_Body):
    """Of POST /v1/chat/completions, without its messages."""

    logprobs: bool | None = None
    top_logprobs: int | None = None
    max_completion_tokens: int | None = None

    is_chat: ClassVar[bool] = True

    @property
    def wanted_tokens(self) -> int:
        given = self.max_completion_tokens
        if given is None:
            given = self.max_tokens
        return ALL_THAT_FITS if given is None else given

    @property
    def top_logprobs_wanted(self) -> int | None:
        return (self.top_logprobs or 0) if self.logprobs else None


Body = ChatBody | CompletionBody
_CHAT, _COMPLETION = msgspec.json.Decoder(ChatBody), msgspec.json.Decoder(CompletionBody)
_CHAT_NAMES, _COMPLETION_NAMES = (
    frozenset(one.__struct_fields__) for one in (ChatBody, CompletionBody)
)


class Read(msgspec.Struct, frozen=True):
    """A body that was understood."""

    body: Body
    prompts: tuple[tuple[Form, bytes], ...]
    n: int  # answers to each
    n_dropped: int  # fields that clients may not set
    # Of clients that may set them.
    cache_salt: str
    priority: int | None

    @property
    def n_answers(self) -> int:
        return self.n * len(self.prompts)

    def plain_pieces(self) -> Iterator[bool]:
        """False: a chat with more than text in it; a chat's pieces, looked at when asked for."""
        for form, data in self.prompts:
            if form is Form.JSON_CHAT:
                yield from plain_pieces(data)


def read_body(data: bytes, *, is_chat: bool, allowed: frozenset[str]) -> Read:
    """Raises InvalidRequest, and NotSpoken where another engine could do what is asked. `allowed`:
    fields of those dropped that clients may set here."""
    fields = kept = fields_of(data)
    if not are_plain(fields, is_chat=is_chat):
        out = dropped(fields, allowed)
        kept = {name: value for name, value in fields.items() if name not in out}
        check_fields(kept, spoken_in(is_chat=is_chat) | (allowed & OURS_WHEN_ALLOWED))
    body, prompts = read_typed(kept, is_chat=is_chat)
    n = validate_n(body.n)
    if n * len(prompts) > MOST_PROMPTS:
        raise InvalidRequest("n", f"asks for {n * len(prompts)} answers: {MOST_PROMPTS} at most")
    salt, priority = read_own(fields, allowed)
    return Read(body, prompts, n, len(fields) - len(kept), salt, priority)


def read_typed(
    fields: Mapping[str, bytes], *, is_chat: bool
) -> tuple[Body, tuple[tuple[Form, bytes], ...]]:
    """What is spoken here of a body's fields, and its prompts, which are not looked at again."""
    names, decoder = (_CHAT_NAMES, _CHAT) if is_chat else (_COMPLETION_NAMES, _COMPLETION)
    body = _typed(decoder, body_of({name: fields[name] for name in fields if name in names}))
    _check_together(body)
    prompt = fields.get("messages" if is_chat else "prompt", b"")
    return body, _chat(prompt) if is_chat else _prompts(prompt)


def read_own(fields: Mapping[str, bytes], allowed: frozenset[str]) -> tuple[str, int | None]:
    """Salt and priority, of clients that may set them."""
    salt = _own(_SALT, fields, "cache_salt", allowed)
    return salt or "", _own(_PRIORITY, fields, "priority", allowed)


_SALT = msgspec.json.Decoder(str | None)
_PRIORITY = msgspec.json.Decoder(int | None)
_T = TypeVar("_T")


def _own(
    decoder: "msgspec.json.Decoder[_T]",
    fields: Mapping[str, bytes],
    name: str,
    allowed: frozenset[str],
) -> _T | None:
    """A field that clients may not set, unless they may."""
    given = fields.get(name) if name in allowed else None
    return None if given is None else read_json(decoder, given, name)


def _typed(decoder: "msgspec.json.Decoder[Any]", data: bytes) -> Body:
    try:
        body: Body = decoder.decode(data)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
        named = _FIELD.search(str(error))
        raise InvalidRequest(named[1] if named else "body", what_is_wrong(error)) from None
    return body


def _check_together(body: Body) -> None:
    options = body.stream_options
    if options is not None and not body.stream:
        raise InvalidRequest("stream_options", "is for streams: set `stream`, or leave it out")
    if options is not None and options.continuous_usage_stats:
        raise NotSpoken("stream_options", "continuous_usage_stats is not done: leave it out")
    if isinstance(body, ChatBody) and body.top_logprobs and not body.logprobs:
        raise InvalidRequest("top_logprobs", "needs `logprobs`: true")


def _chat(messages: bytes) -> tuple[tuple[Form, bytes], ...]:
    if not messages or messages == b"null":
        raise InvalidRequest("messages", "is missing")
    return ((Form.JSON_CHAT, messages),)


def _prompts(prompt: bytes) -> tuple[tuple[Form, bytes], ...]:
    prompt = prompt.strip()
    if not prompt or prompt == b"null":
        raise InvalidRequest("prompt", "is missing")
    if prompt[:1] == b'"':
        return ((Form.JSON_TEXT, prompt),)
    opened = _OPENED.match(prompt)
    inner = b"" if opened is None else opened[1]
    if inner.isdigit() or inner in (b"-", b"]"):
        return ((Form.JSON_IDS, prompt),)
    if inner not in (b'"', b"["):
        raise InvalidRequest("prompt", "is a text, a list of token ids, or a list of such")
    several = _several(prompt)
    form = Form.JSON_TEXT if inner == b'"' else Form.JSON_IDS
    return tuple((form, bytes(one).strip()) for one in several)


_OPENED = re.compile(rb"\[\s*(.)", re.DOTALL)
_SEVERAL = msgspec.json.Decoder(list[msgspec.Raw])


def _several(prompt: bytes) -> list[msgspec.Raw]:
    if len(prompt) > ESCAPED * MAX_PROMPT_BYTES:
        raise InvalidRequest("prompt", f"has {len(prompt)} bytes; shorten it")
    # A million of empty texts is refused without a million of objects.
    if prompt.count(b",") >= MOST_PROMPTS and prompt.count(b'","') >= MOST_PROMPTS:
        raise _too_many()
    try:
        several = _SEVERAL.decode(prompt)
    except (msgspec.DecodeError, RecursionError, UnicodeDecodeError):
        raise InvalidRequest("prompt", "cannot be read: it is no such list") from None
    if len(several) > MOST_PROMPTS:
        raise _too_many()
    return several


def _too_many() -> InvalidRequest:
    return InvalidRequest("prompt", f"has too many prompts; give at most {MOST_PROMPTS}")
