"""Prompts and their answers, functions of what was asked: a lost or repeated token shows."""

import zlib
from ast import literal_eval
from functools import lru_cache

import numpy as np

from radixroute.radix.ids import Keys, Tokens
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope, Scope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.router.messages.inputs import RequestSpec
from tests.simulation.deeds import Pieces

BLOCK_TOKENS = 8
EOS = 2
_FLEET = Scope("simulated", BLOCK_TOKENS)
_EOS_EACH = 17


@lru_cache(maxsize=4096)
def prompt_of(pieces: Pieces, scope: RequestScope = UNSCOPED) -> tuple[Tokens, Keys]:
    """Token ids, and the keys of the full blocks."""
    parts = [
        (np.arange(n, dtype=np.uint32) * np.uint32(40503) + np.uint32(number * 7919 % (1 << 30)))
        % 30_000
        + 10
        for number, n in pieces
    ]
    tokens = np.concatenate(parts).astype(np.uint32)
    tokens.setflags(write=False)
    return tokens, keys_of(tokens, scope)


def prompt_in(spec: RequestSpec) -> Tokens:
    """What an engine reads in it: of a verbatim one the body, which is all that it gets."""
    verbatim = spec.verbatim
    return spec.prompt if verbatim is None else _prompt_in(verbatim.body)


def body_of(pieces: Pieces) -> bytes:
    return repr(pieces).encode()


@lru_cache(maxsize=4096)
def _prompt_in(body: bytes) -> Tokens:
    pieces: Pieces = literal_eval(body.decode())
    return prompt_of(pieces)[0]


def keys_of(tokens: Tokens, scope: RequestScope) -> Keys:
    """As routers and workers have them, each by itself."""
    return block_keys(tokens, BLOCK_TOKENS, _FLEET.seed_of(scope))


class Answer:
    """What an honest engine answers: token by token, on any worker."""

    def __init__(self, prompt: Tokens, sampling: SamplingParams) -> None:
        self._root = zlib.crc32(prompt.tobytes())
        self._sampling = sampling

    @property
    def tells_usage(self) -> bool:
        """Whether an answer that goes by as it is says what was cached: its client may not ask."""
        return self._root % 4 > 0

    def token(self, position: int) -> int:
        value = zlib.crc32(position.to_bytes(4, "little"), self._root)
        return EOS if value % _EOS_EACH == 0 else 10 + value % 20_000

    def finish_after(self, position: int, token: int) -> FinishReason | None:
        """How it ends with the token at `position`; None: it goes on. A stop goes before length."""
        sampling, n = self._sampling, position + 1
        if token == EOS and n >= sampling.min_tokens and not sampling.ignore_eos:
            return FinishReason.STOP
        return FinishReason.LENGTH if n >= sampling.max_tokens else None


def text_of(token: int) -> str:
    """One letter a token: positions and lengths of text agree."""
    return chr(97 + token % 26)
