"""OpenAI request: a prompt of this door as `prompts` reads requests.

Pure. Prompts stay bytes until they are tokenised, beside the loop where that takes long.
"""

import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final, TypeVar

import msgspec

from radixroute.radix.ids import Tokens
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    MOST_SESSION_REQUESTS,
    SEED_END,
    Limits,
    PartialSampling,
    validate_last_of_session,
    validate_length,
    validate_n_biases,
    validate_stop_counts,
    validate_text_size,
)
from radixroute.router.api.giants.forms import Form, Reading, read
from radixroute.router.api.giants.readers import GIANT_BYTES, Giant
from radixroute.router.api.http.asked.bodies import ESCAPED, Body
from radixroute.router.messages.inputs import TOKEN_BYTES, Resumed

U32_END = 1 << 32
SESSION_LAST: Final = "X-Session-Last"  # a header
_MOST_DIGITS: Final = 10


@dataclass(frozen=True, slots=True)
class Defaults:
    """What a model's makers want where a client says nothing; None: nothing in particular."""

    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None


@dataclass(frozen=True, slots=True)
class Sender:
    """Whose request it is, and whom it asks. Implements `Addressed`."""

    session_key: str
    last_of_session: int | None
    tenant: str
    model: str  # empty: whatever is served
    lora: str
    cache_salt: str = field(default="", repr=False)
    priority: int | None = None
    policy: str = ""


class OpenAIRequest(msgspec.Struct, frozen=True, eq=False):
    """One prompt of a body."""

    sender: Sender
    body: Body
    form: Form
    data: bytes  # of the prompt, as it came
    defaults: Callable[[], Defaults]  # asked once something is served
    n_ids: int  # of a list of them
    resumed: Resumed | None = None

    @property
    def session_key(self) -> str:
        return self.sender.session_key

    @property
    def last_of_session(self) -> int | None:
        return self.sender.last_of_session

    @property
    def tenant(self) -> str:
        return self.sender.tenant

    @property
    def model(self) -> str:
        return self.sender.model

    @property
    def lora(self) -> str:
        return self.sender.lora

    @property
    def cache_salt(self) -> str:
        return self.sender.cache_salt

    @property
    def priority(self) -> int | None:
        return self.sender.priority

    @property
    def policy(self) -> str:
        return self.sender.policy

    @property
    def is_text(self) -> bool:
        return self.form is not Form.JSON_IDS or len(self.data) > GIANT_BYTES

    @property
    def n_bytes(self) -> int:
        return len(self.data) if self.is_text else self.n_ids * TOKEN_BYTES

    @property
    def n_messages(self) -> int:
        """Their number is not known before they are read: their size says enough."""
        return 0

    @property
    def giant(self) -> Giant | None:
        return Giant(self.form, self.data) if len(self.data) > GIANT_BYTES else None

    def check(self, limits: Limits) -> None:
        body = self.body
        if self.form is Form.JSON_IDS:
            validate_length(self.n_ids, limits)
        elif len(self.data) > ESCAPED * limits.max_prompt_bytes:
            validate_text_size(len(self.data) // ESCAPED, limits)
        n_strings = len(body.stop) if isinstance(body.stop, list) else 1
        validate_stop_counts(n_strings, len(body.stop_token_ids or ()), limits)
        validate_n_biases(len(body.logit_bias or ()))

    def tokens(self, reading: Reading) -> Tokens:
        return read(self.form, self.data, reading)

    def sampling(self) -> PartialSampling:
        body, wanted = self.body, self.defaults()
        stop = (body.stop,) if isinstance(body.stop, str) else tuple(body.stop or ())
        top_k = wanted.top_k if body.top_k is None else body.top_k
        return PartialSampling(
            temperature=_f32("temperature", _or(body.temperature, wanted.temperature)),
            top_p=_f32("top_p", _or(body.top_p, wanted.top_p)),
            top_k=0 if top_k == -1 else _u32("top_k", top_k),  # other engines' word for off
            # Seeds below 0 are legal in OpenAI's API: another 64 bits.
            seed=None if body.seed is None else _seed(body.seed),
            max_tokens=_u32("max_tokens", body.wanted_tokens),
            min_tokens=_u32("min_tokens", body.min_tokens),
            stop=stop,
            stop_token_ids=tuple(body.stop_token_ids or ()),
            ignore_eos=bool(body.ignore_eos),
            n=body.n,
            presence_penalty=_f32("presence_penalty", body.presence_penalty),
            frequency_penalty=_f32("frequency_penalty", body.frequency_penalty),
            repetition_penalty=_f32(
                "repetition_penalty", _or(body.repetition_penalty, wanted.repetition_penalty)
            ),
            min_p=_f32("min_p", _or(body.min_p, wanted.min_p)),
            logit_bias=_biases(body.logit_bias or {}),
            logprobs=_u32("logprobs", body.top_logprobs_wanted),
        )


def last_of_session(told: str) -> int | None:
    """What the header of that meaning says; empty: nothing. Raises `InvalidRequest`."""
    if not told:
        return None
    if not (told.isascii() and told.isdigit() and len(told) <= _MOST_DIGITS):
        raise InvalidRequest(
            SESSION_LAST,
            "is no count; send how many requests the session had, this last one included: 1 to "
            f"{MOST_SESSION_REQUESTS}",
        )
    validate_last_of_session(int(told), SESSION_LAST)
    return int(told)


def asked_for(
    sender: Sender, body: Body, form: Form, data: bytes, defaults: Callable[[], Defaults]
) -> OpenAIRequest:
    """Of one prompt of the body."""
    n_ids = data.count(b",") + 1 if form is Form.JSON_IDS else 0
    return OpenAIRequest(sender, body, form, data, defaults, n_ids)


def _f32(name: str, value: float | None) -> float | None:
    """As it travels to a worker: both doors then refuse the same."""
    if value is None:
        return None
    try:
        return float(struct.unpack("<f", struct.pack("<f", value))[0])
    except OverflowError:
        raise InvalidRequest(name, "is out of range") from None


def _u32(name: str, value: int | None) -> int | None:
    if value is not None and not 0 <= value < U32_END:
        raise InvalidRequest(name, f"is out of range; use 0 up to {U32_END - 1}")
    return value


def _seed(value: int) -> int:
    if not -(SEED_END >> 1) <= value < SEED_END:
        raise InvalidRequest("seed", "is out of range; use 64 bits")
    return value % SEED_END


def _biases(given: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    pairs = []
    for name, bias in given.items():
        if not (name.isascii() and name.isdigit() and len(name) <= 10 and int(name) < U32_END):
            raise InvalidRequest("logit_bias", "has a key that is no token id")
        pairs.append((int(name), _f32("logit_bias", bias) or 0.0))
    return tuple(pairs)


_N = TypeVar("_N", int, float)


def _or(value: _N | None, default: _N | None) -> _N | None:
    return default if value is None else value
