"""`/tokenize`, the same of all engines that have it; servers that lack it say nothing. Pure."""

from typing import Any

import msgspec

from radixroute.worker.companions.dialects.common.completions import JSON
from radixroute.worker.companions.dialects.dialect import Answer, Ask


class _Tokens(msgspec.Struct):
    tokens: list[int]


def tokenize(text: str, model: str) -> Ask:
    return _ask({"model": model, "prompt": text})


def tokenize_chat(messages: list[dict[str, str]], model: str) -> Ask:
    return _ask({"model": model, "messages": messages, "add_generation_prompt": True})


def tokens_of(answer: Answer) -> list[int] | None:
    """What the two above were answered with; None: it does not say."""
    try:
        decoded = msgspec.json.decode(answer.body, type=_Tokens) if answer.is_ok else None
    except msgspec.MsgspecError:
        return None
    return None if decoded is None else decoded.tokens


def _ask(body: dict[str, Any]) -> Ask:
    return Ask("POST", "/tokenize", JSON, msgspec.json.encode(body))
