"""Answering: what an engine says greedily to prompts that every engine is asked alike.

Owns nothing but what it was given. Two engines with the same weights say the same, but where two
tokens are about as likely: kernels round in different ways, so each token comes with those that
were nearly chosen. Texts are ours, of nobody.
"""

from dataclasses import dataclass
from typing import Final

import numpy as np

from radixroute.radix.keys.block_keys import as_tokens
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.asking import Canary, heard_out
from radixroute.worker.companions.join.joined import Joined

PROBES: Final = (
    "The capital of France is Paris, the capital of Italy is Rome, the capital of Spain is",
    "def add(a, b):\n    return a + b\n\ndef subtract(a, b):\n    return",
)
TOKENS: Final = 6
TOLD: Final = 5  # that were most likely, beside each: what vLLM allows unasked
TIME_S: Final = 5.0  # for one probe; one that is busy, or hangs, is not waited for longer
_NO_TOKENS: Final = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Answered:
    """One probe's answer: its tokens, and beside each the likely ones with log probabilities."""

    token_ids: tuple[int, ...]
    told: tuple[tuple[tuple[int, float], ...], ...]


class Answering:
    """One engine that was tried out."""

    def __init__(self, http: EngineHttp, joined: Joined) -> None:
        self._http = http
        self._joined = joined

    async def run(self) -> tuple[Answered, ...]:
        """One for each probe; empty: it does not tell its tokens with how likely they were."""
        if self._joined.info.cannot_resume or not self._joined.statement.could_tell_events:
            return ()
        found = []
        for text in PROBES:
            answer = await self._answer(text)
            if answer is None:
                return ()
            found.append(answer)
        return tuple(found)

    async def _answer(self, text: str) -> Answered | None:
        joined = self._joined
        prompt = as_tokens(joined.tokenizer.encode(text).tolist())
        sampling = SamplingParams(
            temperature=0.0, max_tokens=TOKENS, ignore_eos=True, logprobs=TOLD
        )
        heard: list[Heard] = []
        canary = Canary(prompt, sampling, joined.rank_of(0), told=TOLD)
        await heard_out(self._http, joined, canary, heard.append, TIME_S)
        return _answered(heard)


def _answered(heard: list[Heard]) -> Answered | None:
    token_ids: list[int] = []
    told: list[tuple[tuple[int, float], ...]] = []
    for one in heard:
        if not one.token_ids:
            continue
        if one.logprobs is None or not one.logprobs.fits(len(one.token_ids)):
            return None
        token_ids += one.token_ids
        for token_id, beside in zip(one.token_ids, one.logprobs.unpacked(), strict=True):
            told.append(((token_id, beside.logprob), *beside.top))
    is_whole = bool(heard) and heard[-1].finish is FinishReason.LENGTH
    return Answered(tuple(token_ids), tuple(told)) if is_whole else None
