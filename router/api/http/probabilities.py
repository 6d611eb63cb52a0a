"""Probabilities: log probabilities of an answer's tokens as OpenAI's API words them.

Owns how far each answer's text has come, in characters: completions tell where each token begins.
"""

from typing import Any, Final

import msgspec
import numpy as np

from radixroute.request.logprobs import Logprobs, TokenLogprob, join_logprobs
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.messages.actions import Emit

LOWEST: Final = -9999.0  # JSON has no infinity: what a bias of -100 leaves


class Probabilities:
    """Of one request's answers."""

    def __init__(self, tokenizer: Tokenizer, *, is_chat: bool) -> None:
        self._tokenizer = tokenizer
        self._is_chat = is_chat
        self._ends: dict[int, int] = {}  # of an answer's text so far
        self._words: dict[int, tuple[str, list[int]]] = {}

    def worded(self, index: int, emits: list[Emit]) -> bytes | None:
        """Of what was emitted of one answer. None: it was not asked for."""
        told = [one.logprobs for one in emits if one.logprobs is not None]
        if not told:
            return None
        ids = [one.token_ids for one in emits if one.logprobs is not None]
        tokens = self._tokens(b"".join(ids), join_logprobs(told))
        if self._is_chat:
            content = [
                {**self._entry(one, t.logprob), "top_logprobs": self._top(t)} for one, t in tokens
            ]
            return msgspec.json.encode({"content": content, "refusal": None})
        return msgspec.json.encode(self._columns(index, tokens))

    def _tokens(self, packed: bytes, told: Logprobs) -> list[tuple[int, TokenLogprob]]:
        ids = np.frombuffer(packed, "<u4").tolist()
        return list(zip(ids, told.unpacked(), strict=True))

    def _columns(self, index: int, tokens: list[tuple[int, TokenLogprob]]) -> dict[str, Any]:
        at, offsets = self._ends.get(index, 0), []
        for token_id, _ in tokens:
            offsets.append(at)
            at += len(self._word(token_id)[0])
        self._ends[index] = at
        has_top = any(one.top for _, one in tokens)
        return {
            "text_offset": offsets,
            "token_logprobs": [_number(one.logprob) for _, one in tokens],
            "tokens": [self._word(token_id)[0] for token_id, _ in tokens],
            "top_logprobs": [self._named(*one) for one in tokens] if has_top else None,
        }

    def _named(self, token_id: int, told: TokenLogprob) -> dict[str, float]:
        """The chosen one is there, too."""
        pairs = (*told.top, (token_id, told.logprob))
        return {self._word(one)[0]: _number(logprob) for one, logprob in pairs}

    def _top(self, told: TokenLogprob) -> list[dict[str, Any]]:
        return [self._entry(token_id, logprob) for token_id, logprob in told.top]

    def _entry(self, token_id: int, logprob: float) -> dict[str, Any]:
        text, data = self._word(token_id)
        return {"token": text, "logprob": _number(logprob), "bytes": data}

    def _word(self, token_id: int) -> tuple[str, list[int]]:
        known = self._words.get(token_id)
        if known is None:
            data = self._tokenizer.token_bytes[token_id]
            if not data:  # a special token is no text, and has a name
                data = self._tokenizer.name_of(token_id).encode()
            known = self._words[token_id] = (_text(data), list(data))
        return known


def _text(data: bytes) -> str:
    """Half a character as OpenAI writes it: each kind of it has a name of its own."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in data)


def _number(logprob: float) -> float:
    return max(logprob, LOWEST)
