"""vLLM over `/v1/completions`: token ids in and out, which every version since 0.10.2 speaks.

Every parameter is sent in each call: the server would fill in the model's own defaults. Stop
strings are not: text is made and cut on our side, as for an engine of ours. Penalties on output
cannot go on after a resume, as what is sent again counts as prompt there. Pure.
"""

import hashlib
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from radixroute.events.wire.compat import salt_of
from radixroute.radix.errors import BrokenInvariant
from radixroute.radix.keys.scope import RequestScope
from radixroute.request.logprobs import Logprobs, TokenLogprob, pack_logprobs
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.bodies import body_of, fields_of
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.dialects import vllm_facts as facts
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Answers,
    Ask,
    EngineNumbers,
    Heard,
    Statement,
)
from radixroute.worker.companions.dialects.passages import OpenAIPassages
from radixroute.worker.companions.dialects.sse import SseLines
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.errors import MalformedMessage

_SEED_MASK: Final = 2**63 - 1  # its seeds are signed, and -1 is none
_SALT_BYTES: Final = 32
_JSON: Final = (("Content-Type", "application/json"),)
_TOKENIZED: Final = (
    "model", "messages", "tools", "chat_template", "chat_template_kwargs", "add_generation_prompt",
    "continue_final_message", "add_special_tokens",
)  # fmt: skip
_FINISHES: Final = {
    "stop": FinishReason.STOP,
    "length": FinishReason.LENGTH,
    "abort": FinishReason.ABORT,
}
_TOKEN_ID: Final = "token_id:"  # noqa: S105 - how it names an id
_NEVER: Final = -9999.0  # vLLM's own word for minus infinity, which JSON has not
_DONE: Final = b"[DONE]"
GAVE_UP: Final = "the engine gave this request up"
REFUSED: Final = "the engine refused this request as wrong"
CLOSED: Final = "the engine does not take requests of ours"
FULL: Final = "the engine's queue is full; try another worker"


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens_details: _Details | None = None


class _Logprobs(msgspec.Struct):
    token_logprobs: list[float | None] = []
    top_logprobs: list[dict[str, float | None] | None] = []


class _Choice(msgspec.Struct):
    token_ids: list[int] | None = None
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Error(msgspec.Struct):
    code: int | str | None = None


class _Chunk(msgspec.Struct):
    """What matters of a chunk; the rest of it, a whole prompt even, is skipped unread."""

    choices: list[_Choice] = []
    usage: _Usage | None = None
    error: _Error | None = None


class _Tokens(msgspec.Struct):
    tokens: list[int]


class _Rendered(msgspec.Struct):
    token_ids: list[int] | None = None  # of `/render`
    tokens: list[int] | None = None  # of `/tokenize`


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class VllmReader:
    """The stream of one answer: each chunk's tokens; the last waits for what was cached."""

    def __init__(self, n_logprobs: int | None = None) -> None:
        self._n_logprobs = n_logprobs
        self._lines = SseLines()
        self._last: Heard | None = None  # has a finish
        self._cached: int | None = None
        self._is_over = False

    def feed(self, data: bytes) -> list[Heard]:
        heard: list[Heard] = []
        try:
            for line in self._lines.feed(data):
                if not self._is_over:
                    self._take(line, heard)
        except (MalformedMessage, msgspec.MsgspecError):
            self._over(heard, _given_up())
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
            self._over(heard, _of_error(chunk.error.code))
            return
        if chunk.usage is not None and chunk.usage.prompt_tokens_details is not None:
            self._cached = chunk.usage.prompt_tokens_details.cached_tokens
        for choice in chunk.choices:
            token_ids = tuple(choice.token_ids or ())
            if choice.finish_reason is not None:
                finish = _FINISHES.get(choice.finish_reason, FinishReason.ABORT)
                self._last = Heard(token_ids, finish, logprobs=self._logprobs(choice))
            elif token_ids:
                heard.append(Heard(token_ids, logprobs=self._logprobs(choice)))

    def _logprobs(self, choice: _Choice) -> Logprobs | None:
        """None: not asked for, or not told of every token."""
        told, n_top = choice.logprobs, self._n_logprobs
        if told is None or n_top is None:
            return None
        tops = told.top_logprobs if n_top else [{}] * len(told.token_logprobs)
        tokens = [
            TokenLogprob(_number(chosen), _best(top or {}, n_top))
            for chosen, top in zip(told.token_logprobs, tops, strict=False)
        ]
        if any(len(token.top) != n_top for token in tokens):
            return None
        packed = pack_logprobs(tokens)
        return packed if packed.fits(len(choice.token_ids or ())) else None

    def _finish(self, heard: list[Heard]) -> None:
        """The answer is whole, if the engine said how it ended."""
        last = self._last
        if last is None:
            self._over(heard, _given_up())
        else:
            self._over(heard, msgspec.structs.replace(last, cached_tokens=self._cached))

    def _over(self, heard: list[Heard], last: Heard) -> None:
        self._is_over = True
        heard.append(last)


class VllmDialect:
    """Implements `radixroute.worker.companions.dialects.dialect.Dialect`.

    `secret`: salts are sent as digests with it, as events show them in the clear.
    """

    kind = "vllm"

    def __init__(self, secret: str = "") -> None:
        self._secret = secret.encode()

    def questions(self) -> tuple[Ask, ...]:
        paths = (facts.MODELS, facts.METRICS, facts.SOURCES, facts.VERSION)
        return tuple(Ask("GET", path) for path in paths)

    def statement(self, answers: Answers, host: str) -> Statement:
        return facts.statement(answers, host)

    def call(
        self, request: EngineRequest, call_id: str, model: str, *, tells_again: bool = False
    ) -> Ask:
        n_emitted = len(request.emitted)
        prompt = [*request.prompt.tolist(), *request.emitted.tolist()]
        body: dict[str, Any] = {
            "model": model,
            "prompt": prompt,
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "add_special_tokens": False,
            **_sampling(request.sampling, n_emitted),
        }
        if request.sampling.logprobs is not None:
            body["logprobs"] = request.sampling.logprobs
            body["return_tokens_as_token_ids"] = True  # texts name several tokens alike
        if tells_again:
            body["vllm_xargs"] = {"kv_cache_report_mode": "full"}
        salt = self.salt(request.scope)
        if salt:
            body["cache_salt"] = salt
        # Never the client's own id: one that is used twice ends both requests there.
        headers = (*_JSON, ("X-Request-Id", call_id))
        return Ask("POST", "/v1/completions", headers, msgspec.json.encode(body))

    def verbatim(self, request: EngineRequest, call_id: str, model: str) -> Ask:
        asked = request.verbatim
        if asked is None:
            raise BrokenInvariant("a request that is not verbatim")
        set_here = {"model": model}
        salt = self.salt(request.scope)
        if salt:
            set_here["cache_salt"] = salt
        headers = (*_JSON, ("X-Request-Id", call_id))
        return Ask("POST", asked.path, headers, _with(asked.body, set_here))

    def renders(self, asked: Verbatim, model: str) -> tuple[Ask, ...]:
        """`/render` is for servers that scale out; `/tokenize` takes of a chat what it knows."""
        body = _with(asked.body, {"model": model})
        first = Ask("POST", f"{asked.path}/render", _JSON, body)
        fields = fields_of(body)
        if "messages" not in fields:
            return (first,)
        known = {name: value for name, value in fields.items() if name in _TOKENIZED}
        return first, Ask("POST", "/tokenize", _JSON, body_of(known))

    def rendered(self, answer: Answer) -> list[int] | None:
        try:
            told = msgspec.json.decode(answer.body, type=_Rendered) if answer.is_ok else None
        except msgspec.MsgspecError:
            return None
        return None if told is None else told.token_ids or told.tokens

    def passages(self, *, is_stream: bool) -> OpenAIPassages:
        return OpenAIPassages(is_stream=is_stream)

    def salt(self, scope: RequestScope) -> str:
        """What keeps its blocks apart in the engine, as events name it; empty: nothing does."""
        text = salt_of(scope)
        if not text:
            return ""
        digest = hashlib.blake2b(self._secret, digest_size=_SALT_BYTES, person=b"rr-engine-salt")
        digest.update(text.encode())
        return digest.hexdigest()

    def reader(self, n_logprobs: int | None = None) -> VllmReader:
        return VllmReader(n_logprobs)

    def refusal(self, status: int, body: bytes) -> Heard:
        """503 is its queue, or its end: whoever asks looks whether it lives."""
        if status == 503:
            return Heard(finish=FinishReason.FULL, error=FULL, is_engine_fault=True)
        if status in (401, 403, 404):  # a key or a model: of the companion, not of the request
            return Heard(finish=FinishReason.ERROR, error=CLOSED, is_engine_fault=True)
        return _of_error(status)

    def tokenize(self, text: str, model: str) -> Ask:
        return _tokenize({"model": model, "prompt": text})

    def tokenize_chat(self, messages: list[dict[str, str]], model: str) -> Ask:
        return _tokenize({"model": model, "messages": messages, "add_generation_prompt": True})

    def tokens_of(self, answer: Answer) -> list[int] | None:
        try:
            decoded = msgspec.json.decode(answer.body, type=_Tokens) if answer.is_ok else None
        except msgspec.MsgspecError:
            return None
        return None if decoded is None else decoded.tokens

    def health(self) -> Ask:
        return Ask("GET", facts.HEALTH)

    def metrics(self) -> Ask:
        return Ask("GET", facts.METRICS)

    def numbers(self, metrics: bytes) -> EngineNumbers:
        return facts.numbers(metrics)


def _with(body: bytes, set_here: Mapping[str, str]) -> bytes:
    """The same bytes unless a value differs; who names no model gets the server's own."""
    fields = fields_of(body)
    wanted = {name: msgspec.json.encode(value) for name, value in set_here.items()}
    if "model" not in fields:
        del wanted["model"]
    if all(fields.get(name) == value for name, value in wanted.items()):
        return body
    return body_of({**fields, **wanted})


def _sampling(sampling: SamplingParams, n_emitted: int) -> dict[str, Any]:
    """Output of earlier attempts is prompt there: lengths are those of the rest."""
    return {
        "max_tokens": sampling.max_tokens - n_emitted,
        "min_tokens": max(0, sampling.min_tokens - n_emitted),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": _seed(sampling.seed, n_emitted),
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "logit_bias": {str(token_id): bias for token_id, bias in sampling.logit_bias} or None,
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
    }


def _best(top: Mapping[str, float | None], n_top: int) -> tuple[tuple[int, float], ...]:
    """Ids and log probabilities, best first; the chosen one may be one too many."""
    pairs = [
        (int(name.removeprefix(_TOKEN_ID)), _number(logprob))
        for name, logprob in top.items()
        if name.removeprefix(_TOKEN_ID).isdecimal()
    ]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:n_top])


def _number(logprob: float | None) -> float:
    return _NEVER if logprob is None else logprob


def _seed(seed: int, n_emitted: int) -> int:
    """Its generator counts draws, not positions: the same seed would repeat its first numbers."""
    if not n_emitted:
        return seed & _SEED_MASK
    digest = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8, person=b"rr-resumed-seed")
    digest.update(n_emitted.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little") & _SEED_MASK


def _tokenize(body: dict[str, Any]) -> Ask:
    return Ask("POST", "/tokenize", _JSON, msgspec.json.encode(body))


def _given_up() -> Heard:
    return Heard(finish=FinishReason.ABORT, error=GAVE_UP, is_engine_fault=True)


def _of_error(code: int | str | None) -> Heard:
    """4xx: the request's own fault, wherever it goes. Else the engine's."""
    if isinstance(code, int) and 400 <= code < 500:
        return Heard(finish=FinishReason.INVALID, error=REFUSED)
    return _given_up()
