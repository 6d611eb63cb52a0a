"""Prompt checks: what a request may ask of the fleet that serves it, and what it then is.

Pure. Every limit is checked here, those that need no tokens first.
"""

from typing import Final

import msgspec

from radixroute.radix.ids import Keys, Tokens
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import RequestScope
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    MAX_PROMPT_BYTES,
    MAX_TENANT_LEN,
    Limits,
    PartialSampling,
    complete,
    validate_prompt,
)
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import unpack_tokens
from radixroute.router.api.asked import Addressed, Asked
from radixroute.router.errors import UnknownModel
from radixroute.router.links.handshake import Served
from radixroute.router.messages.inputs import DEFAULT_PRIORITY, DEFAULT_TENANT, N_BANDS, Resumed
from radixroute.router.workers.members import Adapters

MOST_NAMED: Final = 16  # adapters in an error
MOST_RESUMES: Final = 4096  # of one stream: its attempts are numbered with 16 bits for each, in 32


class Prompt(msgspec.Struct, frozen=True, eq=False):
    """A request's content, validated."""

    tokens: Tokens
    keys: Keys  # of its full blocks
    sampling: SamplingParams


def limits_of(served: Served) -> Limits:
    """Text in which each token would have to be longer than any is too long for certain."""
    fleet = served.facts
    most = (fleet.max_model_len - 1) * served.tokenizer.longest_token_bytes
    return Limits(
        max_model_len=fleet.max_model_len,
        vocab_size=fleet.vocab_size,
        max_prompt_bytes=min(MAX_PROMPT_BYTES, most),
    )


def check_model(asked: Addressed, served: Served) -> None:
    """Raises UnknownModel."""
    if asked.model not in ("", served.facts.model):
        raise UnknownModel(f"unknown model: this cluster serves {served.facts.model!r}")


def tenant_of(asked: Addressed) -> str:
    """Whose request it is, as its door says."""
    if len(asked.tenant) > MAX_TENANT_LEN:
        raise InvalidRequest("tenant", f"has more than {MAX_TENANT_LEN} characters")
    return asked.tenant or DEFAULT_TENANT


def require_adapter(name: str, adapters: Adapters) -> None:
    """With a worker on its way of which nobody knows what it serves, the request waits for it."""
    if adapters.may_serve(name):
        return
    served = adapters.served
    names = ", ".join(map(repr, sorted(served)[:MOST_NAMED]))
    more = ", ..." if len(served) > MOST_NAMED else ""
    raise InvalidRequest(
        "lora",
        f"no worker serves this adapter; use one of {names}{more}, or leave it out"
        if served
        else "no worker serves any adapter; leave it out",
    )


def priority_of(asked: Addressed) -> int:
    """Its band."""
    priority = DEFAULT_PRIORITY if asked.priority is None else asked.priority
    if not 0 <= priority < N_BANDS:
        raise InvalidRequest("priority", f"is a band from 0 (first) to {N_BANDS - 1}")
    return priority


def checked_prompt(
    asked: Asked, served: Served, limits: Limits, scope: RequestScope, seed: int, tokens: Tokens
) -> Prompt:
    """With its block keys, and its sampling complete. Raises InvalidRequest."""
    validate_prompt(tokens, limits)
    partial = asked.sampling()
    sampling = complete(partial, limits, prompt_len=len(tokens), seed=seed)
    if asked.resumed is not None:
        _check_resumed(asked.resumed, partial, sampling, limits)
    keys = block_keys(tokens, served.facts.block_size, served.facts.scope.seed_of(scope))
    return Prompt(tokens, keys, sampling)


def _check_resumed(
    resumed: Resumed, partial: PartialSampling, sampling: SamplingParams, limits: Limits
) -> None:
    """It must go on as it began: nothing may be filled in a second time."""
    for name in ("seed", "max_tokens"):
        if getattr(partial, name) is None:
            told = "a resume sends the sampling that the stream's first message told"
            raise InvalidRequest(f"sampling.{name}", f"is not set; {told}")
    if not 0 < resumed.number <= MOST_RESUMES:
        raise InvalidRequest("resume.number", f"counts a stream's resumes: 1 to {MOST_RESUMES}")
    emitted = unpack_tokens(resumed.emitted, field="resume.emitted_token_ids")
    if len(emitted) > sampling.max_tokens:
        raise InvalidRequest("resume.emitted_token_ids", "has more tokens than max_tokens")
    if len(emitted) and int(emitted.max()) >= limits.vocab_size:
        raise InvalidRequest("resume.emitted_token_ids", "has a token id outside the vocabulary")
