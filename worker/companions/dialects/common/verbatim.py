"""Requests as clients wrote them, under OpenAI's paths, and what tells their tokens. Pure."""

from collections.abc import Mapping
from typing import Final

import msgspec

from radixroute.radix.errors import BrokenInvariant
from radixroute.request.verbatim.bodies import body_of, fields_of
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.dialects.common.completions import JSON
from radixroute.worker.companions.dialects.common.headers import headers_of
from radixroute.worker.companions.dialects.dialect import Answer, Ask
from radixroute.worker.engine.engine import EngineRequest

# What `/tokenize` takes of a chat.
_TOKENIZED: Final = (
    "model", "messages", "tools", "chat_template", "chat_template_kwargs", "add_generation_prompt",
    "continue_final_message", "add_special_tokens",
)  # fmt: skip


class _Rendered(msgspec.Struct):
    token_ids: list[int] | None = None  # of `/render`
    tokens: list[int] | None = None  # of `/tokenize`


def handed_on(
    request: EngineRequest, call_id: str, set_here: Mapping[str, str], rank: int | None = None
) -> Ask:
    """To the path that it came to. `set_here`: what of it is ours to set; empty values are not."""
    asked = request.verbatim
    if asked is None:
        raise BrokenInvariant("a request that is not verbatim")
    headers = headers_of(request, call_id, rank)
    return Ask("POST", asked.path, headers, _with(asked.body, set_here))


def renders(asked: Verbatim, model: str) -> tuple[Ask, ...]:
    """`/render` is for servers that scale out; `/tokenize` takes of a chat what it knows."""
    body = _with(asked.body, {"model": model})
    first = Ask("POST", f"{asked.path}/render", JSON, body)
    fields = fields_of(body)
    if "messages" not in fields:
        return (first,)
    known = {name: value for name, value in fields.items() if name in _TOKENIZED}
    return first, Ask("POST", "/tokenize", JSON, body_of(known))


def rendered(answer: Answer) -> list[int] | None:
    """What one of these was answered with; None: it does not tell."""
    try:
        told = msgspec.json.decode(answer.body, type=_Rendered) if answer.is_ok else None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return None if told is None else told.token_ids or told.tokens


def _with(body: bytes, set_here: Mapping[str, str]) -> bytes:
    """The same bytes unless a value differs; who names no model gets the server's own."""
    fields = fields_of(body)
    wanted = {name: msgspec.json.encode(value) for name, value in set_here.items() if value}
    if "model" not in fields:
        wanted.pop("model", None)
    if all(fields.get(name) == value for name, value in wanted.items()):
        return body
    return body_of({**fields, **wanted})
