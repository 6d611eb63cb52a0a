"""vLLM over `/v1/completions`: token ids in and out, which every version since 0.10.2 speaks.

Every parameter is sent in each call: the server would fill in the model's own defaults. Stop
strings are not: text is made and cut on our side, as for an engine of ours. Penalties on output
cannot go on after a resume, as what is sent again counts as prompt there. Pure.
"""

import hashlib
from collections.abc import Collection
from typing import Any

import msgspec

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.sampling import SamplingParams
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.dialects import vllm_facts as facts
from radixroute.worker.companions.dialects.common import verbatim
from radixroute.worker.companions.dialects.common.completions import (
    SEED_MASK,
    CompletionReader,
    of_status,
)
from radixroute.worker.companions.dialects.common.headers import headers_of
from radixroute.worker.companions.dialects.common.known_events import KnownEvents
from radixroute.worker.companions.dialects.common.models import MODELS
from radixroute.worker.companions.dialects.common.passages import OpenAIPassages
from radixroute.worker.companions.dialects.common.salting import digest_of
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Answers,
    Ask,
    EngineNumbers,
    Heard,
    Statement,
)
from radixroute.worker.engine.engine import EngineRequest


class VllmDialect:
    """Implements `radixroute.worker.companions.dialects.dialect.Dialect`.

    `secret`: salts are sent as digests with it, as events show them in the clear.
    """

    kind = "vllm"

    def __init__(self, secret: str = "") -> None:
        self._secret = secret.encode()
        self._known = KnownEvents()

    def questions(self) -> tuple[Ask, ...]:
        paths = (MODELS, facts.METRICS, facts.SOURCES, facts.VERSION)
        return tuple(Ask("GET", path) for path in paths)

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
        headers = headers_of(request, call_id, rank)
        return Ask("POST", "/v1/completions", headers, msgspec.json.encode(body))

    def verbatim(
        self, request: EngineRequest, call_id: str, model: str, rank: int | None = None
    ) -> Ask:
        set_here = {"model": model, "cache_salt": self.salt(request.scope)}
        return verbatim.handed_on(request, call_id, set_here, rank)

    def renders(self, asked: Verbatim, model: str) -> tuple[Ask, ...]:
        return verbatim.renders(asked, model)

    def rendered(self, answer: Answer) -> list[int] | None:
        return verbatim.rendered(answer)

    def passages(self, *, is_stream: bool) -> OpenAIPassages:
        return OpenAIPassages(is_stream=is_stream)

    def salt(self, scope: RequestScope) -> str:
        return digest_of(scope, self._secret)

    def refuses(self, request: EngineRequest) -> str:
        return ""

    def reader(
        self, n_logprobs: int | None = None, ends: Collection[int] = frozenset()
    ) -> CompletionReader:
        """Whatever token it stopped at is told, and is no text."""
        return CompletionReader(n_logprobs, known=self._known)

    def refusal(self, status: int, body: bytes) -> Heard:
        return of_status(status)

    def abort(self, call_id: str) -> Ask | None:
        """It notices by itself, within a tenth of a second."""
        return None

    def count(self, text: str, model: str) -> Ask | None:
        return None

    def count_of(self, answer: Answer) -> int | None:
        return None

    def health(self) -> Ask:
        return Ask("GET", facts.HEALTH)

    def proof(self, model: str) -> Ask | None:
        return None

    def metrics(self) -> Ask:
        return Ask("GET", facts.METRICS)

    def numbers(self, metrics: bytes) -> EngineNumbers:
        return facts.numbers(metrics)


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


def _seed(seed: int, n_emitted: int) -> int:
    """Its generator counts draws, not positions: the same seed would repeat its first numbers."""
    if not n_emitted:
        return seed & SEED_MASK
    digest = hashlib.blake2b(seed.to_bytes(8, "little"), digest_size=8, person=b"rr-resumed-seed")
    digest.update(n_emitted.to_bytes(8, "little"))
    return int.from_bytes(digest.digest(), "little") & SEED_MASK
