"""What a request may ask for: one set of rules for the router and the worker.

Owns the limits and every check against them. Pure: no model, no tokenizer, no I/O. The router
calls those that take a size or a number before it converts anything, `validate_prompt` after it
tokenised and `complete` to fill in defaults; the worker calls `validate_prompt` and
`validate_sampling` again, since it trusts no router.
"""

import math
from collections.abc import Sequence
from typing import Final, TypeVar

import msgspec

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import RequestScope
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import SamplingParams

DEFAULT_TEMPERATURE = 1.0
DEFAULT_TOP_P = 1.0
DEFAULT_TOP_K = 0
DEFAULT_MAX_TOKENS = 256
DEFAULT_MIN_TOKENS = 0
MOST_ANSWERS = 8  # to one prompt
MOST_LOGPROBS = 20  # beside each token; OpenAI's API allows as many
MOST_BIASES = 1024  # token ids
MOST_BIAS = 100.0
MOST_PENALTY = 2.0
# Below this, logits divided by the temperature leave float32's range for ordinary models; vLLM
# clamps at 0.01. We refuse instead of changing what was asked.
MIN_TEMPERATURE = 1e-3
SEED_END = 2**64
# Of text. A 131,072-token prompt is about 0.6 MB of English; tokenising runs at some 2 MB/s.
MAX_PROMPT_BYTES = 2 * 1024 * 1024
# Characters. vLLM takes as long a salt; a worker keeps one copy of what blocks are kept apart by.
MAX_SALT_LEN = 1024
MAX_ADAPTER_LEN = 256
MAX_TENANT_LEN = 128
# Requests of one session. A judgement: no thread of an agent is near it, and it is a count still.
MOST_SESSION_REQUESTS = 1_000_000

Value = TypeVar("Value")


class Limits(msgspec.Struct, frozen=True):
    """What one model and one deployment accept. The caps are judgements, the model's are facts."""

    max_model_len: int  # tokens, prompt and output together
    vocab_size: int  # token ids are below it
    max_prompt_bytes: int = MAX_PROMPT_BYTES  # of text, before it is parsed
    # Every stop string is searched in every step's text; OpenAI's API allows 4.
    max_stop_strings: int = 16
    max_stop_len: int = 256  # characters of one stop string
    max_stop_token_ids: int = 64


class PartialSampling(msgspec.Struct, frozen=True):
    """Sampling parameters as a client gave them; None is "not given"."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    min_tokens: int | None = None
    stop: tuple[str, ...] = ()
    stop_token_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    n: int | None = None  # answers; a door's business, which asks for each alone
    presence_penalty: float | None = None
    frequency_penalty: float | None = None
    repetition_penalty: float | None = None
    min_p: float | None = None
    logit_bias: tuple[tuple[int, float], ...] = ()
    logprobs: int | None = None  # None: none


def validate_text_size(size_bytes: int, limits: Limits) -> None:
    """Refuses text that is too large to be worth tokenising. Call it before parsing."""
    if size_bytes > limits.max_prompt_bytes:
        raise InvalidRequest(
            "prompt",
            f"has {size_bytes} bytes of text; shorten it to at most {limits.max_prompt_bytes}",
        )


# How a prompt that is too long for the model is told so.
_TOO_LONG: Final = "the model takes"


def is_too_long(error: InvalidRequest) -> bool:
    """Whether a prompt was refused because the model takes no such length."""
    return error.field in ("prompt", "messages") and _TOO_LONG in error.message


def validate_n_messages(n_messages: int, limits: Limits) -> None:
    """Refuses a chat whose every message could not have a single token. Call it before parsing."""
    most = limits.max_model_len - 1
    if n_messages > most:
        raise InvalidRequest(
            "messages",
            f"has {n_messages} messages; {_TOO_LONG} {limits.max_model_len} tokens with the "
            f"answer, so give at most {most}",
        )


def validate_scope(scope: RequestScope) -> None:
    """Refuses names and salts that are too long. It never says what they are."""
    for name, value, most in (
        ("lora", scope.lora, MAX_ADAPTER_LEN),
        ("cache_salt", scope.salt, MAX_SALT_LEN),
        ("tenant", scope.tenant, MAX_TENANT_LEN),
    ):
        if len(value) > most:
            raise InvalidRequest(name, f"has {len(value)} characters; use at most {most}")


def validate_last_of_session(n_requests: int | None, field: str = "last_of_session") -> None:
    """Refuses a session's count of requests that is none. None: nobody said it is over."""
    if n_requests is not None and not 1 <= n_requests <= MOST_SESSION_REQUESTS:
        raise InvalidRequest(
            field,
            f"is {n_requests}; send how many requests the session had, this last one included: "
            f"1 to {MOST_SESSION_REQUESTS}",
        )


def validate_length(n_tokens: int, limits: Limits) -> None:
    """Refuses a prompt that is empty or too long to leave room for one token."""
    if n_tokens == 0:
        raise InvalidRequest("prompt", "is empty; give at least one token")
    longest = limits.max_model_len - 1
    if n_tokens > longest:
        raise InvalidRequest(
            "prompt",
            f"has {n_tokens} tokens; {_TOO_LONG} {limits.max_model_len} with the answer, "
            f"so shorten the prompt to at most {longest}",
        )


def validate_prompt(tokens: Tokens, limits: Limits) -> None:
    """Refuses a prompt whose length or whose ids are out of range."""
    validate_length(tokens.size, limits)
    if int(tokens.max()) >= limits.vocab_size:
        raise InvalidRequest(
            "prompt",
            f"contains a token id outside the vocabulary; ids must be below {limits.vocab_size}",
        )


def complete(
    partial: PartialSampling, limits: Limits, *, prompt_len: int, seed: int
) -> SamplingParams:
    """Fills in every default and checks the result. `seed` is used when the client gave none.

    `max_tokens` is an upper bound: it is cut to what the model has room for after the prompt, and
    the answer then ends with LENGTH, as the wire contract says of the context limit.
    """
    tokens_left = limits.max_model_len - prompt_len
    wanted = _or(partial.max_tokens, DEFAULT_MAX_TOKENS)
    sampling = SamplingParams(
        temperature=_or(partial.temperature, DEFAULT_TEMPERATURE),
        top_p=_or(partial.top_p, DEFAULT_TOP_P),
        top_k=_or(partial.top_k, DEFAULT_TOP_K),
        seed=_or(partial.seed, seed),
        max_tokens=min(wanted, tokens_left),
        min_tokens=_or(partial.min_tokens, DEFAULT_MIN_TOKENS),
        stop=partial.stop,
        stop_token_ids=partial.stop_token_ids,
        ignore_eos=partial.ignore_eos,
        presence_penalty=_or(partial.presence_penalty, 0.0),
        frequency_penalty=_or(partial.frequency_penalty, 0.0),
        repetition_penalty=_or(partial.repetition_penalty, 1.0),
        min_p=_or(partial.min_p, 0.0),
        logit_bias=tuple(sorted(partial.logit_bias)),
        logprobs=partial.logprobs,
    )
    validate_sampling(sampling, limits, prompt_len=prompt_len)
    return sampling


def validate_sampling(sampling: SamplingParams, limits: Limits, *, prompt_len: int) -> None:
    """Checks complete parameters, each alone and against one another. `prompt_len`: no output."""
    _check_distribution(sampling)
    _check_shape(sampling, limits)
    _check_lengths(sampling, limits.max_model_len - prompt_len)
    validate_stop_counts(len(sampling.stop), len(sampling.stop_token_ids), limits)
    validate_n_biases(len(sampling.logit_bias))
    _check_stops(sampling.stop, limits)
    _check_stop_ids(sampling.stop_token_ids, limits)
    if not 0 <= sampling.seed < SEED_END:
        raise InvalidRequest("seed", "is out of range; use 0 up to 2^64 - 1")


def _check_distribution(sampling: SamplingParams) -> None:
    temperature = sampling.temperature
    if not math.isfinite(temperature) or temperature < 0:
        raise InvalidRequest(
            "temperature", f"is {temperature}; use 0 for greedy or a positive number"
        )
    if 0 < temperature < MIN_TEMPERATURE:
        raise InvalidRequest(
            "temperature",
            f"is {temperature:g}; use 0 for greedy or at least {MIN_TEMPERATURE:g}",
        )
    if not 0 < sampling.top_p <= 1:  # false for NaN too
        raise InvalidRequest(
            "top_p", f"is {sampling.top_p}; use a number above 0 and up to 1 (1 is off)"
        )
    if sampling.top_k < 0:
        raise InvalidRequest("top_k", f"is {sampling.top_k}; use 0 (off) or a positive number")


def validate_n(n: int | None) -> int:
    """How many answers are wanted."""
    answers = _or(n, 1)
    if not 1 <= answers <= MOST_ANSWERS:
        raise InvalidRequest("n", f"is {answers}; use 1 to {MOST_ANSWERS}")
    return answers


def validate_n_biases(n_biases: int) -> None:
    """Refuses more biases than are applied. Call it before they are converted."""
    if n_biases > MOST_BIASES:
        raise InvalidRequest("logit_bias", f"has {n_biases} token ids; give at most {MOST_BIASES}")


def _check_shape(sampling: SamplingParams, limits: Limits) -> None:
    # Each comparison is false for NaN too.
    for name in ("presence_penalty", "frequency_penalty"):
        penalty = getattr(sampling, name)
        if not -MOST_PENALTY <= penalty <= MOST_PENALTY:
            raise InvalidRequest(name, f"is {penalty}; use -2 to 2 (0 is off)")
    if not 0 < sampling.repetition_penalty <= MOST_PENALTY:
        raise InvalidRequest(
            "repetition_penalty",
            f"is {sampling.repetition_penalty}; use a number above 0 and up to 2 (1 is off)",
        )
    if not 0 <= sampling.min_p <= 1:
        raise InvalidRequest("min_p", f"is {sampling.min_p}; use 0 (off) to 1")
    if sampling.logprobs is not None and not 0 <= sampling.logprobs <= MOST_LOGPROBS:
        raise InvalidRequest("logprobs", f"is {sampling.logprobs}; use 0 to {MOST_LOGPROBS}")
    for token_id, bias in sampling.logit_bias:
        if not 0 <= token_id < limits.vocab_size:
            most = limits.vocab_size - 1
            raise InvalidRequest("logit_bias", f"names an id out of range; use 0 up to {most}")
        if not -MOST_BIAS <= bias <= MOST_BIAS:
            raise InvalidRequest("logit_bias", f"has a bias of {bias}; use -100 to 100")


def _check_lengths(sampling: SamplingParams, tokens_left: int) -> None:
    if sampling.max_tokens < 1:
        raise InvalidRequest("max_tokens", f"is {sampling.max_tokens}; use 1 or more")
    if sampling.max_tokens > tokens_left:
        raise InvalidRequest(
            "max_tokens",
            f"is {sampling.max_tokens}; after this prompt the model has room for {tokens_left}",
        )
    if sampling.min_tokens < 0:
        raise InvalidRequest("min_tokens", f"is {sampling.min_tokens}; use 0 or more")
    if sampling.min_tokens > sampling.max_tokens:
        raise InvalidRequest(
            "min_tokens",
            f"is {sampling.min_tokens}, more than the {sampling.max_tokens} tokens that may be "
            f"generated (max_tokens, cut to the {tokens_left} the model has room for); lower it",
        )


def validate_stop_counts(n_strings: int, n_token_ids: int, limits: Limits) -> None:
    """Refuses more ways to end than are looked for. Call it before they are converted."""
    if n_strings > limits.max_stop_strings:
        raise InvalidRequest(
            "stop", f"has {n_strings} strings; give at most {limits.max_stop_strings}"
        )
    if n_token_ids > limits.max_stop_token_ids:
        raise InvalidRequest(
            "stop_token_ids",
            f"has {n_token_ids} ids; give at most {limits.max_stop_token_ids}",
        )


def _check_stops(stop: Sequence[str], limits: Limits) -> None:
    for number, text in enumerate(stop, start=1):
        if not text:
            raise InvalidRequest("stop", f"string {number} is empty; leave it out")
        if len(text) > limits.max_stop_len:
            raise InvalidRequest(
                "stop",
                f"string {number} has {len(text)} characters; use at most {limits.max_stop_len}",
            )


def _check_stop_ids(token_ids: Sequence[int], limits: Limits) -> None:
    if any(not 0 <= token_id < limits.vocab_size for token_id in token_ids):
        raise InvalidRequest(
            "stop_token_ids", f"contains an id out of range; use 0 up to {limits.vocab_size - 1}"
        )


def _or(value: Value | None, default: Value) -> Value:
    return default if value is None else value
