"""What is answered without asking an engine: requests that it could not serve truly. Pure."""

from collections.abc import Collection

from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.engine import EngineInfo, EngineRequest

RUNS_ALREADY = "request_id: this attempt is running already"
NO_ADAPTER = "lora: names an adapter that this engine does not serve"
TOO_LONG = "max_tokens: prompt and max_tokens exceed what the engine takes"
NOT_RESUMABLE = (
    "presence_penalty, frequency_penalty: this engine cannot go on with them where another ended"
)


def refusal_of(request: EngineRequest, info: EngineInfo, *, is_running: bool) -> str:
    """A fixed sentence; empty: it may be sent."""
    if is_running:
        return RUNS_ALREADY
    if request.scope.lora and request.scope.lora not in info.adapters:
        return NO_ADAPTER
    if request.verbatim is not None:
        return ""  # the rest is the engine's to say
    if len(request.prompt) + request.sampling.max_tokens > info.max_model_len:
        return TOO_LONG  # it would be cut short there, without a word
    if len(request.emitted) and request.sampling.reads_output and info.resent_is_prompt:
        return NOT_RESUMABLE
    return ""


def finish_already(request: EngineRequest, eos_token_ids: Collection[int]) -> FinishReason | None:
    """A resume may carry the very tokens that end it."""
    n_emitted, sampling = len(request.emitted), request.sampling
    if not n_emitted:
        return None
    if n_emitted > sampling.min_tokens:
        last = int(request.emitted[-1])
        is_eos = last in eos_token_ids and not sampling.ignore_eos
        if is_eos or last in sampling.stop_token_ids:
            return FinishReason.STOP
    return FinishReason.LENGTH if n_emitted >= sampling.max_tokens else None
