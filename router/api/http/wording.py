"""Wording: the JSON of answers as OpenAI's API has it. Pure.

What is the same in every event of a stream is made once; a token then costs one string encoded and
three pieces joined.
"""

from typing import Any

import msgspec

from radixroute.request.sampling import FinishReason
from radixroute.router.api.fan import usage_of
from radixroute.router.messages.actions import Usage

DONE = b"data: [DONE]\n\n"
_FINISHES = {FinishReason.STOP: "stop", FinishReason.LENGTH: "length"}
_encode = msgspec.json.encode


class Totals(msgspec.Struct, frozen=True):
    """What all answers to one request cost together."""

    prompt_tokens: int = 0
    cached_tokens: int = 0
    output_tokens: int = 0

    def plus(self, usage: Usage, answer: int) -> "Totals":
        """`answer`: its number among those to the same prompt, which is counted once."""
        own = usage_of(usage, answer)
        return Totals(
            self.prompt_tokens + own.prompt_tokens,
            self.cached_tokens + own.cached_tokens,
            self.output_tokens + own.output_tokens,
        )

    def worded(self) -> dict[str, Any]:
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.output_tokens,
            "total_tokens": self.prompt_tokens + self.output_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }


class Wording:
    """Of one request's answers."""

    def __init__(
        self, request_id: str, model: str, created_s: int, *, is_chat: bool, tells_usage: bool
    ) -> None:
        """`tells_usage`: of a stream."""
        self._is_chat = is_chat
        self._tells_usage = tells_usage
        self._id = ("chatcmpl-" if is_chat else "cmpl-") + request_id
        self._model, self._created = model, created_s
        self._heads: dict[int, bytes] = {}
        close = b"}" if is_chat else b""
        usage = b',"usage":null' if tells_usage else b""
        self._tail = close + b',"logprobs":null,"finish_reason":null}]' + usage + b"}\n\n"
        self._rare = close + b',"logprobs":%b,"finish_reason":%b}]' + usage + b"}\n\n"

    def opening(self, index: int) -> bytes:
        """Before an answer's first text."""
        if not self._is_chat:
            return b""
        return self._start(index) + b'"delta":{"role":"assistant","content":""' + self._tail

    def event(
        self, index: int, text: str, finish: FinishReason | None, logprobs: bytes | None = None
    ) -> bytes:
        """More of an answer."""
        head, tail = self.around(index)
        if finish is None and logprobs is None:
            return head + _encode(text) + tail
        end = b"null" if finish is None else _encode(_finish(finish))
        return head + _encode(text) + self._rare % (logprobs or b"null", end)

    def around(self, index: int) -> tuple[bytes, bytes]:
        """An event of an answer's text alone: what is before the text and what behind it."""
        return self._heads.get(index) or self._head(index), self._tail

    def closing(self, totals: Totals) -> bytes:
        """After all answers."""
        if not self._tells_usage:
            return DONE
        told = {**self._common(is_chunk=True), "choices": [], "usage": totals.worded()}
        return b"data: " + _encode(told) + b"\n\n" + DONE

    def whole(self, answers: list[tuple[str, FinishReason, bytes | None]], totals: Totals) -> bytes:
        """All of it, by index: text, end, log probabilities."""
        choices = [self._choice(index, *answer) for index, answer in enumerate(answers)]
        told = {**self._common(is_chunk=False), "choices": choices, "usage": totals.worded()}
        return _encode(told)

    def _choice(
        self, index: int, text: str, finish: FinishReason, logprobs: bytes | None
    ) -> dict[str, Any]:
        content: dict[str, Any] = {"text": text}
        if self._is_chat:
            content = {"message": {"role": "assistant", "content": text, "refusal": None}}
        told = None if logprobs is None else msgspec.Raw(logprobs)
        return {"index": index, **content, "logprobs": told, "finish_reason": _finish(finish)}

    def _common(self, *, is_chunk: bool) -> dict[str, Any]:
        kind = "text_completion"
        if self._is_chat:
            kind = "chat.completion.chunk" if is_chunk else "chat.completion"
        return {"id": self._id, "object": kind, "created": self._created, "model": self._model}

    def _start(self, index: int) -> bytes:
        common = _encode(self._common(is_chunk=True))
        return b'data: %b,"choices":[{"index":%d,' % (common[:-1], index)

    def _head(self, index: int) -> bytes:
        what = b'"delta":{"content":' if self._is_chat else b'"text":'
        head = self._heads[index] = self._start(index) + what
        return head


def _finish(finish: FinishReason) -> str:
    return _FINISHES.get(finish, "error")
