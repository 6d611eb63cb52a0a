"""Pacing: when the tokens of an answer come: how long each takes, and whether they come as they are
made.

Owns nothing but what it was given. Each round asks a canary for one token, then the same one for
some: what the second takes longer, its tokens take. An engine that has others' requests is not
timed. What rounds say together is pure.
"""

import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Final

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.asking import Canary, heard_out
from radixroute.worker.companions.join.checklist import canary_prompt
from radixroute.worker.companions.join.joined import Joined

ROUNDS: Final = 2
ANSWER_S: Final = 5.0  # what came by then is what there is
LONG_ROUND_S: Final = 2.0  # of a slow engine one says enough
# Of the second answer: as many tokens as take this long, in these bounds.
WANTED_S: Final = 0.6
FEWEST, MOST = 8, 64
TOGETHER_S: Final = 0.001  # what comes nearer to each other came at once
ENOUGH_GAPS: Final = 4
# An answer is held back where its tokens come as fast as no engine makes them, and so much later
# than one token would have that it is no pause of this process.
LUMP_S: Final = 0.0005  # a token
HELD_S: Final = 0.1
_NO_TOKENS: Final = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Round:
    """What was heard of two answers, in seconds since each was asked for."""

    alone_s: float  # the whole answer of one token
    arrivals: tuple[tuple[float, int], ...]  # of the other: when, and how many tokens
    is_whole: bool = True  # nothing of it was missing when it was given up


@dataclass(frozen=True, slots=True)
class Pace:
    """What rounds say together."""

    token_s: float | None = None  # from one to the next, median; None: too few were told apart
    gaps: int = 0  # that it is the median of
    held_s: float = 0.0  # how long whole answers were held back, the least; 0: they were not


def pace_of(rounds: Sequence[Round]) -> Pace:
    """None of them: nothing is known."""
    gaps = [gap for one in rounds for gap in _gaps(_apart(one.arrivals))]
    held = [_held_s(one) for one in rounds]
    is_known = len(gaps) >= ENOUGH_GAPS
    return Pace(median(gaps) if is_known else None, len(gaps), min(held, default=0.0))


def _apart(arrivals: Sequence[tuple[float, int]]) -> list[tuple[float, int]]:
    """What came together as one."""
    found: list[tuple[float, int]] = []
    latest_s = -1.0
    for at_s, n_tokens in arrivals:
        if found and at_s - latest_s < TOGETHER_S:
            found[-1] = found[-1][0], found[-1][1] + n_tokens
        else:
            found.append((at_s, n_tokens))
        latest_s = at_s
    return found


def _gaps(arrivals: Sequence[tuple[float, int]]) -> list[float]:
    """Of each token behind the first ones."""
    pairs = itertools.pairwise(arrivals)
    return [(at_s - before_s) / n for (before_s, _), (at_s, n) in pairs]


def _held_s(one: Round) -> float:
    """0: it was not held back, or nobody knows."""
    n_tokens = sum(n for _, n in one.arrivals)
    if not one.is_whole or n_tokens < FEWEST:
        return 0.0
    first_s, last_s = one.arrivals[0][0], one.arrivals[-1][0]
    taken_s = last_s - one.alone_s
    is_lump = last_s - first_s < n_tokens * LUMP_S
    return taken_s if is_lump and taken_s >= HELD_S else 0.0


class Pacing:
    """One engine that answers prompts."""

    def __init__(self, http: EngineHttp, joined: Joined) -> None:
        self._http = http
        self._joined = joined

    async def run(self) -> Pace | None:
        """None: others' requests are there, or it has no room for answers."""
        rounds: list[Round] = []
        for _ in range(ROUNDS):
            if not await self._is_idle():
                return None
            began_s = time.monotonic()
            one = await self._round()
            if one is None:
                return None
            rounds.append(one)
            if time.monotonic() - began_s > LONG_ROUND_S:
                break
        return pace_of(rounds)

    async def _is_idle(self) -> bool:
        """One that does not say is taken for that."""
        dialect = self._joined.dialect
        page = await self._http.ask(dialect.metrics())
        numbers = dialect.numbers(page.body) if page.is_ok else None
        return numbers is None or not (numbers.running or numbers.waiting)

    async def _round(self) -> Round | None:
        info = self._joined.info
        prompt = canary_prompt(info.block_size, info.vocab_size, info.max_model_len)
        room = info.max_model_len - len(prompt) - 1
        if room < FEWEST:
            return None
        arrivals, is_whole = await self._answer(prompt, 1)
        if not (arrivals and is_whole):
            return None
        alone_s = arrivals[-1][0]
        n_tokens = max(FEWEST, min(MOST, room, int(WANTED_S / max(alone_s, 1e-3))))
        return Round(alone_s, *await self._answer(prompt, n_tokens))

    async def _answer(
        self, prompt: Tokens, n_tokens: int
    ) -> tuple[tuple[tuple[float, int], ...], bool]:
        """When how many tokens came, and whether that is all of them."""
        sampling = SamplingParams(temperature=0.0, max_tokens=n_tokens, ignore_eos=True)
        arrivals: list[tuple[float, int]] = []
        ends: list[FinishReason] = []

        def hear(one: Heard) -> None:
            n = len(one.token_ids) or bool(one.text)
            if n:
                arrivals.append((time.monotonic() - began_s, n))
            if one.finish is not None:
                ends.append(one.finish)

        canary = Canary(prompt, sampling, self._joined.rank_of(0))
        began_s = time.monotonic()
        await heard_out(self._http, self._joined, canary, hear, ANSWER_S)
        return tuple(arrivals), ends == [FinishReason.LENGTH]
