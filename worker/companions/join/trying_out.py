"""Trying out: the same prompt twice, and what an engine and its events make of it.

Owns nothing but what it was given. Canaries are of tokens that nobody ever sent.
"""

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.asking import Canary, heard_out
from radixroute.worker.companions.join.checklist import (
    BELIEVED_CANARY,
    Trial,
    canary_prompt,
    check_trial,
)
from radixroute.worker.companions.join.findings import PLACED, Finding, JoinRefused, finding
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.texts import Texts

_POLL_S: Final = 0.01
_SALTED: Final = RequestScope(salt="canary")
_NO_TOKENS: Final = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what may never come, in seconds."""

    answer_s: float = 5.0  # for what it says of itself
    late_s: float = 8.0  # once more, for one that takes connections and was given up by that
    replay_s: float = 3.0  # vLLM looks for questions each 100 ms
    heard_s: float = 2.0  # events of a step follow it
    canary_s: float = 60.0  # the first step of an engine may compile
    examined_s: float = 25.0  # for all that an engine that is only examined is to compute


PATIENCE: Final = Patience()


class Followed(Protocol):
    """What is known of an engine's event link."""

    is_begun: bool
    has_replay: bool
    is_cut: bool
    batches: int  # that came live


class Mirrored(Protocol):
    """What an engine holds by its events."""

    def cached_tokens(self, tokens: Any, scope: Any) -> int: ...


class TriedCache(Protocol):
    """One rank's."""

    @property
    def mirror(self) -> Mirrored: ...

    @property
    def follower(self) -> Followed | None:
        """None: its events are not followed."""


@dataclass(frozen=True, slots=True)
class _Tried:
    """How one rank did."""

    trial: Trial
    is_told: bool  # by its events
    is_astray: bool  # it was sent to this rank, and another computed it
    prompt: Tokens

    @property
    def canary(self) -> tuple[int, int]:
        """Tokens that could have been found again, and that were."""
        return len(self.prompt) - 1, self.trial.second_cached or 0


class TryingOut:
    """One engine's trial: a prompt must be cached by the rank that it was sent to, and events must
    say so."""

    def __init__(
        self,
        settings: CompanionSettings,
        http: EngineHttp,
        joined: Joined,
        patience: Patience = PATIENCE,
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._http = http
        self._joined = joined
        self._status = 0  # of the last answer that was no stream

    async def run(self, caches: Sequence[TriedCache]) -> Joined:
        """What it is known as now; `caches`: of its ranks. Raises `JoinRefused`."""
        joined = self._joined
        for at, cache in enumerate(caches):
            await self._await_replay(at, cache.follower)
        tried = [await self._try_rank(at, caches) for at in range(len(caches))]
        is_told, first = all(one.is_told for one in tried), tried[0]
        is_astray = any(one.is_astray for one in tried)
        if joined.statement.keeps_salts_apart is None:
            is_apart = await self._keeps_salts_apart(first.prompt)
            joined = replace(joined, keeps_salts_apart=is_apart)
        texts = None
        if not first.trial.has_token_ids:
            loop = asyncio.get_running_loop()
            texts = await loop.run_in_executor(None, Texts, joined.tokenizer)
        info = replace(
            joined.info,
            is_cache_believed=is_astray or (not is_told and first.trial.has_found),
            cannot_resume=not first.trial.has_token_ids,
        )
        ranks, places = joined.ranks, joined.places
        if is_astray:  # it chooses among them itself: they are as one
            ranks, info = ranks[:1], replace(info, ranks=1)
        if is_astray or not is_told:
            places = ()
        return replace(
            joined, info=info, texts=texts, canary=first.canary, places=places, ranks=ranks
        )

    async def _await_replay(self, at: int, follower: Followed | None) -> None:
        """What it still keeps of before."""
        if follower is None:
            return
        await _until(lambda: follower.is_begun, self._patience.replay_s)
        if not follower.has_replay and not self._settings.allow_no_replay:
            is_there = at < len(self._joined.places) and self._joined.places[at].replay
            raise JoinRefused(self._of_place(at, "replay_silent" if is_there else "replay"))

    async def _try_rank(self, at: int, caches: Sequence[TriedCache]) -> _Tried:
        joined, kind, info = self._joined, self._joined.statement.kind, self._joined.info
        cache, follower = caches[at], caches[at].follower
        prompt = self._canary(BELIEVED_CANARY if follower is None else 0)
        rank = joined.rank_of(at)
        ends = [await self.send_canary(prompt, rank=rank) for _ in range(2)]
        if not any(ends):
            raise JoinRefused(finding("hangs", f"not in {self._patience.canary_s:g} s", kind=kind))
        trial = _trial(ends, self._status)
        is_told = is_astray = False
        if follower is not None:
            is_told = await self._is_told([one.mirror for one in caches], prompt)
        if len(caches) > 1:
            is_astray = await self._went_astray(at, caches, prompt, trial)
        if not is_astray:
            check_trial(trial, joined.statement, self._settings, info.block_size)
        if follower is not None and not is_astray:
            is_told = is_told and self._is_held(cache.mirror, prompt)
            is_told = is_told or await self._is_told_again(at, cache.mirror, follower)
            is_told = is_told and await self._is_heard_live(at, follower)
        return _Tried(trial, is_told, is_astray, prompt)

    async def _went_astray(
        self, at: int, caches: Sequence[TriedCache], prompt: Tokens, trial: Trial
    ) -> bool:
        """Whether another rank computed it. Where nobody tells, one that was not found again."""
        others = [one.mirror for other, one in enumerate(caches) if other != at]
        is_lost = trial.has_ended and not trial.has_found
        if caches[at].follower is None:
            return is_lost
        is_astray = any(self._is_held(one, prompt) for one in others)
        if is_lost and not is_astray:
            is_astray = await self._is_told(others, prompt)
        if is_astray and not self._settings.allow_no_events:
            detail = f"a prompt for rank {self._joined.ranks[at]} was computed by another"
            raise JoinRefused(finding("ranks", detail, kind=self._joined.statement.kind))
        return is_astray

    async def _keeps_salts_apart(self, prompt: Tokens) -> bool:
        """Whether what is cached without a salt serves no salted one."""
        salted = await self.send_canary(prompt, _SALTED, rank=self._joined.rank_of(0))
        return cached_of(salted) == 0 and _is_whole(salted[-1] if salted else Heard())

    def _canary(self, at_least: int = 0) -> Tokens:
        info = self._joined.info
        return canary_prompt(info.block_size, info.vocab_size, info.max_model_len, at_least)

    def _is_held(self, mirror: Mirrored, prompt: Tokens) -> bool:
        size = self._joined.info.block_size
        return mirror.cached_tokens(prompt, UNSCOPED) >= (len(prompt) - 1) // size * size

    async def _is_told(self, mirrors: Sequence[Mirrored], prompt: Tokens) -> bool:
        """By the events of one of them, before long."""
        told = self._patience.heard_s
        return await _until(lambda: any(self._is_held(one, prompt) for one in mirrors), told)

    async def _is_told_again(self, at: int, mirror: Mirrored, follower: Followed) -> bool:
        """Where what was missed cannot be told again, all is forgotten once: the canary as well.
        False: whatever its events tell, they are not believed."""
        prompt = self._canary()
        if follower.is_cut:
            await self.send_canary(prompt, rank=self._joined.rank_of(at))
        is_told = follower.is_cut and await self._is_told([mirror], prompt)
        if not is_told and not self._settings.allow_no_events:
            is_unlinked = follower.has_replay and not follower.is_begun
            silent = "events_not_live" if is_unlinked else "events_silent"
            code = "events_differ" if follower.batches else silent
            raise JoinRefused(self._of_place(at, code))
        return is_told

    async def _is_heard_live(self, at: int, follower: Followed) -> bool:
        """Whether its events come by themselves: what replays alone tell comes seconds late, and
        only what they still keep. False: then they are not believed."""
        if follower.batches:
            return True
        # What was sent before its socket knew of ours reached nobody: once more.
        await self.send_canary(self._canary(), rank=self._joined.rank_of(at))
        is_heard = await _until(lambda: follower.batches > 0, self._patience.heard_s)
        if not is_heard and not self._settings.allow_no_events:
            raise JoinRefused(self._of_place(at, "events_not_live"))
        return is_heard

    def _of_place(self, at: int, code: str) -> Finding:
        """What is wrong with where its events are said to be, by the engine or by settings."""
        places, settings = self._joined.places, self._settings
        kind = PLACED if settings.events else self._joined.statement.kind
        if at >= len(places):
            return finding(code, kind=kind)
        where = places[at].replay if code.startswith("replay") else places[at].events
        return finding(code, where, kind=kind)

    async def send_canary(
        self, prompt: Tokens, scope: RequestScope = UNSCOPED, rank: int | None = None
    ) -> list[Heard]:
        """One token after this prompt: all that was heard, in some time."""
        sampling = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
        heard: list[Heard] = []
        dialect = self._joined.dialect

        def refusal(status: int, body: bytes) -> Heard:
            self._status = status
            return dialect.refusal(status, body)

        canary = Canary(prompt, sampling, rank, scope)
        most_s = self._patience.canary_s
        await heard_out(self._http, self._joined, canary, heard.append, most_s, refusal)
        return heard


def _trial(ends: list[list[Heard]], status: int) -> Trial:
    lasts = [heard[-1] if heard else Heard() for heard in ends]
    return Trial(
        has_ended=all(_is_whole(last) for last in lasts),
        has_token_ids=all(any(one.token_ids for one in heard) for heard in ends),
        first_cached=cached_of(ends[0]),
        second_cached=cached_of(ends[-1]),
        is_refused=any(last.finish is FinishReason.INVALID for last in lasts),
        status=status,
    )


def _is_whole(last: Heard) -> bool:
    return last.finish in (FinishReason.LENGTH, FinishReason.STOP)


def cached_of(heard: list[Heard]) -> int | None:
    """Cached tokens, wherever in an answer they are told."""
    return next((one.cached_tokens for one in heard if one.cached_tokens is not None), None)


async def _until(holds: Any, timeout_s: float) -> bool:
    give_up_s = time.monotonic() + timeout_s
    while not holds():
        if time.monotonic() > give_up_s:
            return False
        await asyncio.sleep(_POLL_S)
    return True
