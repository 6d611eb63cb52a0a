"""Any server with OpenAI's `/v1/completions` that takes a prompt of token ids.

Says only what that API has: what it cannot say is refused, as a server would skip it in silence.
Ids of the answer are asked for and need not come: then its texts are all there is, and who made
them cannot be gone on with. It tells nothing of its cache but, in its answers, what it found. Pure.
"""

from collections.abc import Collection
from typing import Any, Final

import msgspec

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.sampling import SamplingParams
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.companions.dialects.common import verbatim
from radixroute.worker.companions.dialects.common.completions import (
    JSON,
    SEED_MASK,
    CompletionReader,
    of_status,
)
from radixroute.worker.companions.dialects.common.headers import headers_of
from radixroute.worker.companions.dialects.common.known_events import KnownEvents
from radixroute.worker.companions.dialects.common.models import MODELS, models_of, no_model
from radixroute.worker.companions.dialects.common.passages import OpenAIPassages
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Answers,
    Ask,
    EngineNumbers,
    Heard,
    Statement,
)
from radixroute.worker.engine.engine import EngineRequest

KIND: Final = "openai"
COMPLETIONS: Final = "/v1/completions"
NO_LOGPROBS: Final = "logprobs: this engine names tokens by their texts, which several share"
_PLAIN: Final = SamplingParams()
# What its API lacks; each is off unless a client asked for it.
_LACKS: Final = (
    "top_k",
    "min_p",
    "repetition_penalty",
    "min_tokens",
    "stop_token_ids",
    "ignore_eos",
)
_REFUSALS: Final = {name: f"{name}: this engine's API has no such parameter" for name in _LACKS}


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None


class _Whole(msgspec.Struct):
    """An answer that is no stream."""

    usage: _Usage | None = None


class OpenAiDialect:
    """Implements `radixroute.worker.companions.dialects.dialect.Dialect`."""

    kind = KIND

    def __init__(self) -> None:
        self._known = KnownEvents()

    def questions(self) -> tuple[Ask, ...]:
        return (Ask("GET", MODELS),)

    def statement(self, answers: Answers, host: str) -> Statement:
        models = models_of(answers[MODELS])
        base = next((model for model in models if model.parent is None), None)
        if base is None:
            raise no_model(answers[MODELS], KIND)
        return Statement(
            kind=KIND,
            model=base.id,
            root=base.root or "",
            adapters=tuple(model.id for model in models if model.parent is not None),
            max_model_len=base.max_model_len or 0,
            could_tell_events=False,
            keeps_salts_apart=False,
        )

    def call(
        self,
        request: EngineRequest,
        call_id: str,
        model: str,
        *,
        tells_again: bool = False,
        rank: int | None = None,
    ) -> Ask:
        sampling, n_emitted = request.sampling, len(request.emitted)
        body: dict[str, Any] = {
            "model": model,
            "prompt": [*request.prompt.tolist(), *request.emitted.tolist()],
            "stream": True,
            "stream_options": {"include_usage": True},
            "return_token_ids": True,
            "max_tokens": sampling.max_tokens - n_emitted,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "seed": sampling.seed & SEED_MASK,
        }
        # Left out where they say nothing: some servers know none of these.
        if sampling.presence_penalty:
            body["presence_penalty"] = sampling.presence_penalty
        if sampling.frequency_penalty:
            body["frequency_penalty"] = sampling.frequency_penalty
        if sampling.logit_bias:
            body["logit_bias"] = {str(token_id): bias for token_id, bias in sampling.logit_bias}
        headers = headers_of(request, call_id)
        return Ask("POST", COMPLETIONS, headers, msgspec.json.encode(body))

    def verbatim(
        self, request: EngineRequest, call_id: str, model: str, rank: int | None = None
    ) -> Ask:
        return verbatim.handed_on(request, call_id, {"model": model})

    def renders(self, asked: Verbatim, model: str) -> tuple[Ask, ...]:
        """Its API has no such page."""
        return ()

    def rendered(self, answer: Answer) -> list[int] | None:
        return None

    def passages(self, *, is_stream: bool) -> OpenAIPassages:
        return OpenAIPassages(is_stream=is_stream)

    def salt(self, scope: RequestScope) -> str:
        return ""

    def refuses(self, request: EngineRequest) -> str:
        if request.sampling.logprobs is not None:
            return NO_LOGPROBS
        sampling = request.sampling
        return next(
            (
                sentence
                for name, sentence in _REFUSALS.items()
                if getattr(sampling, name) != getattr(_PLAIN, name)
            ),
            "",
        )

    def reader(
        self, n_logprobs: int | None = None, ends: Collection[int] = frozenset()
    ) -> CompletionReader:
        return CompletionReader(takes_texts=True, ends=ends, known=self._known)

    def refusal(self, status: int, body: bytes) -> Heard:
        return of_status(status)

    def abort(self, call_id: str) -> Ask | None:
        """There is no such page; servers end what nobody reads."""
        return None

    def count(self, text: str, model: str) -> Ask | None:
        body = {"model": model, "prompt": text, "max_tokens": 1, "temperature": 0.0}
        return Ask("POST", COMPLETIONS, JSON, msgspec.json.encode(body))

    def count_of(self, answer: Answer) -> int | None:
        try:
            whole = msgspec.json.decode(answer.body, type=_Whole) if answer.is_ok else _Whole()
        except msgspec.MsgspecError:
            return None
        return None if whole.usage is None else whole.usage.prompt_tokens

    def health(self) -> Ask:
        return Ask("GET", MODELS)

    def proof(self, model: str) -> Ask | None:
        body = {"model": model, "prompt": [1], "max_tokens": 1, "temperature": 0.0}
        return Ask("POST", COMPLETIONS, JSON, msgspec.json.encode(body))

    def metrics(self) -> Ask:
        return Ask("GET", "/metrics")

    def numbers(self, metrics: bytes) -> EngineNumbers:
        """Pages of unknown servers mean nothing here."""
        return EngineNumbers()
