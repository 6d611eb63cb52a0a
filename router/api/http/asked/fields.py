"""Fields of bodies: which this door speaks, which it drops, which only another engine could serve.

Pure. A field that nobody here understands is refused by its name: an answer that leaves out what
was asked for is worse than none. `null`, and values that ask for nothing, pass.
"""

from collections.abc import Iterable, Iterator, Mapping
from typing import Final

from radixroute.request.errors import InvalidRequest

# They reach into an engine: whose blocks are shared, who goes first, which process computes.
STRIPPED: Final = frozenset(
    (
        "cache_salt", "priority", "kv_transfer_params", "ec_transfer_params", "vllm_xargs",
        "extra_key", "extra_args", "routed_dp_rank", "data_parallel_rank", "rid", "request_id",
        "session_id", "lora_path", "custom_logit_processor", "custom_params", "kv_hints",
        "logits_processors",
    )
)  # fmt: skip
STRIPPED_BEGINNINGS: Final = ("bootstrap_",)
# Of these, what this door can do when clients may set it; the others are for engines alone.
OURS_WHEN_ALLOWED: Final = frozenset(("cache_salt", "priority"))

_SAMPLING = frozenset(
    (
        "temperature", "top_p", "top_k", "min_p", "seed", "max_tokens", "min_tokens", "stop",
        "stop_token_ids", "ignore_eos", "n", "presence_penalty", "frequency_penalty",
        "repetition_penalty", "logit_bias", "logprobs", "model", "stream", "stream_options",
    )
)  # fmt: skip
SPOKEN_IN_CHATS: Final = _SAMPLING | {"messages", "max_completion_tokens", "top_logprobs"}
SPOKEN_IN_COMPLETIONS: Final = _SAMPLING | {"prompt"}
# They change no answer: who asks, how it is billed, where it is kept.
_WITHOUT_EFFECT = frozenset(
    (
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key",
        "prompt_cache_retention", "parallel_tool_calls",
    )
)  # fmt: skip
_PLAIN_IN_CHATS = SPOKEN_IN_CHATS | _WITHOUT_EFFECT
_PLAIN_IN_COMPLETIONS = SPOKEN_IN_COMPLETIONS | _WITHOUT_EFFECT
# Values that ask for what is done anyway, as JSON without spaces.
_NEUTRAL: Mapping[str, tuple[bytes, ...]] = {
    "tools": (b"[]",),
    "tool_choice": (b'"none"', b'"auto"'),
    "functions": (b"[]",),
    "function_call": (b'"none"', b'"auto"'),
    "response_format": (b'{"type":"text"}',),
    "modalities": (b'["text"]',),
    "echo": (b"false",),
    "best_of": (b"1",),
    "suffix": (b'""',),
    "use_beam_search": (b"false",),
    "length_penalty": (b"1", b"1.0"),
    "add_generation_prompt": (b"true",),
    "continue_final_message": (b"false",),
    "add_special_tokens": (b"true",),
    "skip_special_tokens": (b"true",),
    "spaces_between_special_tokens": (b"true",),
    "include_stop_str_in_output": (b"false",),
    "return_token_ids": (b"false",),
    "chat_template_kwargs": (b"{}",),
    "documents": (b"[]",),
}
# They change what is answered, never what is read of the prompt.
_BESIDE_THE_PROMPT = frozenset(
    (
        "response_format", "structured_outputs", "guided_json", "guided_regex", "guided_choice",
        "guided_grammar", "guided_decoding_backend", "guided_whitespace_pattern", "structural_tag",
        "prompt_logprobs", "return_tokens_as_token_ids", "return_token_ids", "bad_words",
        "allowed_token_ids", "include_stop_str_in_output", "skip_special_tokens", "length_penalty",
        "spaces_between_special_tokens", "use_beam_search", "best_of", "regex", "ebnf",
        "json_schema", "stop_regex", "echo",
    )
)  # fmt: skip
MAX_NAME_LEN = 64  # of what an error repeats of a client's own words


def spoken_in(*, is_chat: bool) -> frozenset[str]:
    """Fields that are done here."""
    return SPOKEN_IN_CHATS if is_chat else SPOKEN_IN_COMPLETIONS


def are_plain(fields: Mapping[str, bytes], *, is_chat: bool) -> bool:
    """Nearly always: none of them is to be dropped, or refused."""
    return fields.keys() <= (_PLAIN_IN_CHATS if is_chat else _PLAIN_IN_COMPLETIONS)


class NotSpoken(InvalidRequest):
    """Nothing may be wrong with it: another engine could serve it."""


def dropped(names: Iterable[str], allowed: frozenset[str]) -> frozenset[str]:
    """Those that reach into an engine and that clients may not set."""
    return frozenset(name for name in names if _is_stripped(name) and name not in allowed)


def check_fields(fields: Mapping[str, bytes], spoken: frozenset[str]) -> None:
    """Raises NotSpoken for what would change an answer and is not done here."""
    for name in _foreign(fields, spoken):
        raise NotSpoken(
            name[:MAX_NAME_LEN],
            "is not done by the engines of this cluster: leave it out, or use another engine",
        )


def leaves_prompt(fields: Mapping[str, bytes], spoken: frozenset[str]) -> bool:
    """Whether what is not done here leaves the prompt as it would be without."""
    return all(name in _BESIDE_THE_PROMPT for name in _foreign(fields, spoken))


def _foreign(fields: Mapping[str, bytes], spoken: frozenset[str]) -> Iterator[str]:
    for name, value in fields.items():
        if name in spoken or name in _WITHOUT_EFFECT:
            continue
        given = b"".join(value.split()) if len(value) < 64 else b"-"
        if given != b"null" and given not in _NEUTRAL.get(name, ()):
            yield name


def _is_stripped(name: str) -> bool:
    return name in STRIPPED or name.startswith(STRIPPED_BEGINNINGS)
