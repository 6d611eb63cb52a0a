"""SGLang over its own `/generate`: token ids in and out, what was cached with the first of them.

What comes is all output so far, or what is new, as the server was started: the number of tokens
says which are new. It skips fields that it does not know, and refuses parameters that it does not
know. Stop strings are not sent; penalties on output cannot go on after a resume. Pure.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.logprobs import Logprobs, TokenLogprob
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.dialects import sglang_facts as facts
from radixroute.worker.companions.dialects.common import verbatim
from radixroute.worker.companions.dialects.common.completions import (
    JSON,
    REFUSED,
    SEED_MASK,
    full,
    given_up,
    number,
    of_code,
    of_status,
    packed,
)
from radixroute.worker.companions.dialects.common.headers import traced
from radixroute.worker.companions.dialects.common.models import MODELS
from radixroute.worker.companions.dialects.common.passages import OpenAIPassages
from radixroute.worker.companions.dialects.common.salting import digest_of
from radixroute.worker.companions.dialects.common.sse import SseLines
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Answers,
    Ask,
    EngineNumbers,
    Heard,
    Statement,
)
from radixroute.worker.engine.engine import EngineRequest
from radixroute.worker.errors import MalformedMessage

_DONE: Final = b"[DONE]"
_FINISHES: Final = {"stop": FinishReason.STOP, "length": FinishReason.LENGTH}
_ALL: Final = -1  # its word for a top_k that is off

_Told = tuple[float | None, int, object]  # log probability, token id, text


class _Finish(msgspec.Struct):
    type: str = ""
    status_code: int | None = None  # of one that was aborted


class _Meta(msgspec.Struct):
    completion_tokens: int = 0
    cached_tokens: int | None = None
    finish_reason: _Finish | None = None
    output_token_logprobs: list[_Told] = []
    output_top_logprobs: list[list[_Told] | None] = []


class _Error(msgspec.Struct):
    code: int | str | None = None


class _Chunk(msgspec.Struct):
    output_ids: list[int] = []
    meta_info: _Meta | None = None
    error: _Error | None = None


_decode_chunk = msgspec.json.Decoder(_Chunk).decode


class SglangReader:
    """The stream of one answer."""

    def __init__(self, n_logprobs: int | None, ends: Collection[int]) -> None:
        self._n_logprobs = n_logprobs
        self._ends = ends
        self._lines = SseLines()
        self._n_told = 0  # output tokens
        self._has_told_cached = False
        self._is_over = False

    def feed(self, data: bytes) -> list[Heard]:
        heard: list[Heard] = []
        try:
            for line in self._lines.feed(data):
                if self._is_over:
                    break
                self._take(line, heard)
        except (MalformedMessage, msgspec.MsgspecError):
            self._over(heard, given_up())
        return heard

    def end(self) -> list[Heard]:
        """The last chunk says how an answer ended: without it, it did not."""
        heard: list[Heard] = []
        if not self._is_over:
            self._over(heard, given_up())
        return heard

    def _take(self, line: bytes, heard: list[Heard]) -> None:
        if line == _DONE:
            self._over(heard, given_up())
            return
        chunk = _decode_chunk(line)
        if chunk.error is not None:
            self._over(heard, self._of_error(chunk.error.code))
        elif chunk.meta_info is not None:
            self._read(chunk.output_ids, chunk.meta_info, heard)

    def _read(self, ids: list[int], meta: _Meta, heard: list[Heard]) -> None:
        n_new = meta.completion_tokens - self._n_told
        if n_new < 0 or len(ids) < n_new:
            self._over(heard, given_up())  # some are lost
            return
        new = tuple(ids[len(ids) - n_new :])
        self._n_told = meta.completion_tokens
        cached = None
        if new and not self._has_told_cached:
            cached, self._has_told_cached = meta.cached_tokens, True
        logprobs = self._logprobs(meta, n_new)
        if meta.finish_reason is None:
            if new:
                heard.append(Heard(new, cached_tokens=cached, logprobs=logprobs))
            return
        finish = _FINISHES.get(meta.finish_reason.type)
        if finish is None:
            self._over(heard, self._of_error(meta.finish_reason.status_code or 500))
            return
        if finish is FinishReason.STOP and new and new[-1] not in self._ends:
            # The last token of a stop is no text to whoever reads it; this one is.
            heard.append(Heard(new, cached_tokens=cached, logprobs=logprobs))
            new, cached, logprobs = (), None, None
        self._over(heard, Heard(new, finish=finish, cached_tokens=cached, logprobs=logprobs))

    def _of_error(self, code: int | str | None) -> Heard:
        """Without a code it found the request wrong; its queue being full is said here, too."""
        if code is None:
            return Heard(finish=FinishReason.INVALID, error=REFUSED)
        if code in (429, 503) and not self._n_told:
            return full(int(code))
        return given_up() if code == 429 else of_code(code)

    def _logprobs(self, meta: _Meta, n_new: int) -> Logprobs | None:
        n_top = self._n_logprobs
        chosen = meta.output_token_logprobs
        if n_top is None or not n_new or len(chosen) < n_new:
            return None
        tops = meta.output_top_logprobs[-n_new:] if n_top else [[]] * n_new
        tokens = [
            TokenLogprob(number(one[0]), _best(top or [], n_top))
            for one, top in zip(chosen[-n_new:], tops, strict=False)
        ]
        return packed(tokens, n_top, n_new)

    def _over(self, heard: list[Heard], last: Heard) -> None:
        self._is_over = True
        heard.append(last)


class SglangDialect:
    """Implements `radixroute.worker.companions.dialects.dialect.Dialect`.

    `secret`: salts are sent as digests with it, as events show them in the clear.
    """

    kind = facts.KIND

    def __init__(self, secret: str = "") -> None:
        self._secret = secret.encode()

    def questions(self) -> tuple[Ask, ...]:
        return tuple(Ask("GET", path) for path in (MODELS, facts.INFO, facts.OLD_INFO))

    def statement(self, answers: Answers, host: str) -> Statement:
        return facts.statement(answers, host)

    def call(
        self,
        request: EngineRequest,
        call_id: str,
        model: str,
        *,
        tells_again: bool = False,
        rank: int | None = None,
    ) -> Ask:
        body: dict[str, Any] = {
            "rid": call_id,
            "input_ids": [*request.prompt.tolist(), *request.emitted.tolist()],
            "sampling_params": _sampling(request.sampling, len(request.emitted)),
            "stream": True,
        }
        if request.sampling.logprobs is not None:
            body |= {"return_logprob": True, "logprob_start_len": -1}
            body |= {"top_logprobs_num": request.sampling.logprobs}
        if request.scope.lora:
            body["lora_path"] = request.scope.lora
        if rank is not None:
            # Its header counts for nothing here; older ones know the second name alone.
            body |= {"routed_dp_rank": rank, "data_parallel_rank": rank}
        salt = self.salt(request.scope)
        if salt:
            body["cache_salt"] = salt
        return Ask("POST", "/generate", traced(request), msgspec.json.encode(body))

    def verbatim(
        self, request: EngineRequest, call_id: str, model: str, rank: int | None = None
    ) -> Ask:
        """No `rid`: the body stays as it came, and a closed connection is noticed in the end."""
        scope = request.scope
        set_here = {"model": model, "lora_path": scope.lora, "cache_salt": self.salt(scope)}
        return verbatim.handed_on(request, call_id, set_here, rank)

    def renders(self, asked: Verbatim, model: str) -> tuple[Ask, ...]:
        """It is not known to tell tokens of a chat with tools."""
        return ()

    def rendered(self, answer: Answer) -> list[int] | None:
        return None

    def passages(self, *, is_stream: bool) -> OpenAIPassages:
        return OpenAIPassages(is_stream=is_stream)

    def salt(self, scope: RequestScope) -> str:
        return digest_of(scope, self._secret)

    def refuses(self, request: EngineRequest) -> str:
        return ""

    def reader(
        self, n_logprobs: int | None = None, ends: Collection[int] = frozenset()
    ) -> SglangReader:
        return SglangReader(n_logprobs, ends)

    def refusal(self, status: int, body: bytes) -> Heard:
        return of_status(status)

    def abort(self, call_id: str) -> Ask | None:
        """A closed connection it notices after two seconds only. It ends all whose ids begin so:
        ours have one length."""
        return Ask("POST", "/abort_request", JSON, msgspec.json.encode({"rid": call_id}))

    def count(self, text: str, model: str) -> Ask | None:
        return None

    def count_of(self, answer: Answer) -> int | None:
        return None

    def health(self) -> Ask:
        """Its `/health` may take a prompt through the engine, and a second at least."""
        return Ask("GET", MODELS)

    def proof(self, model: str) -> Ask | None:
        return Ask("GET", "/health_generate")

    def metrics(self) -> Ask:
        return Ask("GET", facts.METRICS)

    def numbers(self, metrics: bytes) -> EngineNumbers:
        return facts.numbers(metrics)


def _sampling(sampling: SamplingParams, n_emitted: int) -> dict[str, Any]:
    """Every one is sent, so that no default of the model's counts. Output of earlier attempts is
    prompt there: lengths are those of the rest; seeds go with positions, and stay."""
    said: dict[str, Any] = {
        "max_new_tokens": sampling.max_tokens - n_emitted,
        "min_new_tokens": max(0, sampling.min_tokens - n_emitted),
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k or _ALL,
        "min_p": sampling.min_p,
        "sampling_seed": sampling.seed & SEED_MASK,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "stop_token_ids": list(sampling.stop_token_ids),
        "ignore_eos": sampling.ignore_eos,
        "skip_special_tokens": True,
    }
    if sampling.logit_bias:
        said["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias}
    return said


def _best(top: list[_Told], n_top: int) -> tuple[tuple[int, float], ...]:
    pairs = [(one[1], number(one[0])) for one in top]
    return tuple(sorted(pairs, key=lambda pair: -pair[1])[:n_top])
