"""The stream of `/v1/completions`, read, and what its errors mean: vLLM's and all that are like it.

A chunk brings tokens by their ids where the server tells them, else as text; the last waits for
what was cached. Pure.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Final

import msgspec

from radixroute.request.logprobs import Logprobs, TokenLogprob, pack_logprobs
from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.dialects.common.known_events import KnownEvents
from radixroute.worker.companions.dialects.common.sse import SseLines
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.errors import MalformedMessage

JSON: Final = (("Content-Type", "application/json"),)
SEED_MASK: Final = 2**63 - 1  # seeds are signed there, and -1 is none
GAVE_UP: Final = "the engine gave this request up"
REFUSED: Final = "the engine refused this request as wrong"
CLOSED: Final = "the engine does not take requests of ours"
FULL: Final = "the engine's queue is full; try another worker"
_FINISHES: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.ABORT,
}
_TOKEN_ID: Final = "token_id:"  # noqa: S105 - how it names an id
NEVER: Final = -9999.0  # vLLM's own word for minus infinity, which JSON has not
_DONE: Final = b"[DONE]"
_DATA: Final = b"data:"
_CHOICES: Final = b'"choices":['
_WRONG: Final = "invalid_request_error"  # as OpenAI itself says it, whose codes are words


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens_details: _Details | None = None


class _Logprobs(msgspec.Struct):
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float | None] | None] = []


class _Choice(msgspec.Struct):
    text: str | None = None
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Error(msgspec.Struct):
    code: int | str | None = None
    type: str | None = None


class _Chunk(msgspec.Struct):
    """What matters of a chunk; the rest of it, a whole prompt even, is skipped unread."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class CompletionReader:
    """One answer. Implements `radixroute.worker.companions.dialects.dialect.AnswerReader`."""

    def __init__(
        self,
        n_logprobs: int | None = None,
        *,
        takes_texts: bool = False,
        ends: Collection[int] | None = None,
        known: KnownEvents | None = None,
    ) -> None:
        """`takes_texts`: where no ids are told. `ends`: tokens that may end an answer; None: the
        last one does wherever the server says that it stopped. `known`: of answers before."""
        self._n_logprobs = n_logprobs
        self._takes_texts = takes_texts  # until ids were told
        self._takes_ids = True  # until a text had none
        self._ends = ends
        self._lines = SseLines()
        self._last: Heard | None = None  # has a finish
        self._cached: int | None = None
        self._is_over = False
        self._known = KnownEvents() if known is None else known
        # Of each event of this answer; empty: what comes next must be read.
        self._head = b""

    def feed(self, data: bytes) -> Sequence[Heard]:
        head = self._head
        if head and data.startswith(head):
            known = self._known.find(data[len(head) :])
            if known is not None:
                return known
        heard = self._read(data)
        self._learn(data, heard)
        return heard

    def _read(self, data: bytes) -> list[Heard]:
        heard: list[Heard] = []
        try:
            for line in self._lines.feed(data):
                if not self._is_over:
                    self._take(line, heard)
        except (MalformedMessage, msgspec.MsgspecError):
            self._over(heard, given_up())
        return heard

    def end(self) -> list[Heard]:
        heard: list[Heard] = []
        if not self._is_over:
            self._finish(heard)
        return heard

    def _take(self, line: bytes, heard: list[Heard]) -> None:
        if line == _DONE:
            self._finish(heard)
            return
        chunk = _decode_chunk(line)
        if chunk.error is not None:
            code = 400 if chunk.error.type == _WRONG else chunk.error.code
            self._over(heard, of_code(code))
            return
        if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
            self._cached = chunk.usage.prompt_tokens_details.cached_tokens
        for choice in chunk.choices:
            self._choose(choice, heard)

    def _choose(self, choice: _Choice, heard: list[Heard]) -> None:
        token_ids, text = self._said(choice)
        new = Heard(token_ids, text=text, logprobs=self._logprobs(choice))
        if choice.finish_reason is None:
            if token_ids or text:
                heard.append(new)
            return
        finish = _FINISHES.get(choice.finish_reason, FinishReason.ABORT)
        if text or not self._may_end(token_ids, finish):
            heard.append(new)
            new = Heard()
        self._last = msgspec.structs.replace(new, finish=finish)

    def _said(self, choice: _Choice) -> tuple[tuple[int, ...], str]:
        """One way all through an answer, whatever some chunk has beside."""
        if choice.token_ids is not None and self._takes_ids:
            self._takes_texts = False
            return tuple(choice.token_ids), ""
        if choice.text and self._takes_texts:
            self._takes_ids = False
            return (), choice.text
        return (), ""

    def _may_end(self, token_ids: tuple[int, ...], finish: FinishReason) -> bool:
        """Whether the last of them is no text, as it has to be where an answer stopped."""
        is_stop = finish is FinishReason.STOP and self._ends is not None and token_ids
        return not is_stop or token_ids[-1] in (self._ends or ())

    def _logprobs(self, choice: _Choice) -> Logprobs | None:
        """None: not asked for, or not told of every token."""
        told, n_top = choice.logprobs, self._n_logprobs
        if told is None or n_top is None:
            return None
        tops = told.top_logprobs if n_top else [{}] * len(told.token_logprobs)
        tokens = [
            TokenLogprob(number(chosen), _best(top or {}, n_top))
            for chosen, top in zip(told.token_logprobs, tops, strict=False)
        ]
        return packed(tokens, n_top, len(choice.token_ids or ()))

    def _learn(self, data: bytes, heard: list[Heard]) -> None:
        """These bytes say the same behind any head, if they are tokens by their ids, no line goes
        on, and there is nothing else to be told."""
        is_plain = len(heard) == 1 and heard[0] == Heard(heard[0].token_ids)
        is_plain = is_plain and data.endswith(b"\n")
        has_more = (self._n_logprobs, self._cached, self._last) != (None, None, None)
        if not is_plain or has_more or not heard[0].token_ids:
            self._head = b""
            return
        if not (self._head and data.startswith(self._head)):
            self._head = _head_of(data)
        if self._head:
            self._known.add(data[len(self._head) :], heard[0])

    def _finish(self, heard: list[Heard]) -> None:
        """The answer is whole, if the engine said how it ended."""
        last = self._last
        if last is None:
            self._over(heard, given_up())
        else:
            self._over(heard, msgspec.structs.replace(last, cached_tokens=self._cached))

    def _over(self, heard: list[Heard], last: Heard) -> None:
        self._is_over = True
        heard.append(last)


def _head_of(event: bytes) -> bytes:
    """Up to its choices; empty unless what follows there are its choices, whatever they are."""
    at = event.find(_CHOICES) + len(_CHOICES)
    head = event[:at]
    if at < len(_CHOICES) or not head.startswith(_DATA):
        return b""
    try:
        alone = _decode_chunk(head[len(_DATA) :] + b"]}")
    except msgspec.MsgspecError:
        return b""  # it is somewhere deeper, or in a text
    return head if alone == _Chunk() else b""


def given_up(status: int = 0) -> Heard:
    error = GAVE_UP
    return Heard(finish=FinishReason.ABORT, error=error, is_engine_fault=True, status=status)


def of_code(code: int | str | None) -> Heard:
    """An error in a stream. 4xx: the request's own fault, wherever it goes. Else the engine's."""
    status = code if isinstance(code, int) else 0
    if 400 <= status < 500:
        return Heard(finish=FinishReason.INVALID, error=REFUSED, status=status)
    return given_up(status)


def full(status: int) -> Heard:
    """It has no room now, or says so before its end."""
    is_fault = status == 503
    return Heard(finish=FinishReason.FULL, error=FULL, is_engine_fault=is_fault, status=status)


def of_status(status: int) -> Heard:
    """An answer that is no stream. 503 is its queue, or its end: whoever asks looks whether it
    lives. 429 is a queue as well."""
    if status in (429, 503):
        return full(status)
    if status in (401, 403, 404):  # a key or a model: of the companion, not of the request
        error = CLOSED
        return Heard(finish=FinishReason.ERROR, error=error, is_engine_fault=True, status=status)
    return of_code(status)


def packed(tokens: list[TokenLogprob], n_top: int, n_ids: int) -> Logprobs | None:
    """None: not of every token, or not as many beside it."""
    if any(len(token.top) != n_top for token in tokens):
        return None
    made = pack_logprobs(tokens)
    return made if made.fits(n_ids) else None


def number(logprob: float | None) -> float:
    return NEVER if logprob is None else logprob


def _best(top: Mapping[str, float | None], n_top: int) -> tuple[tuple[int, float], ...]:
    """Ids and log probabilities, best first; the chosen one may be one too many."""
    pairs = [
        (int(name.removeprefix(_TOKEN_ID)), number(logprob))
        for name, logprob in top.items()
        if name.removeprefix(_TOKEN_ID).isdecimal()
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:n_top])
