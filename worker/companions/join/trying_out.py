"""Trying out: the same prompt twice, and what an engine and its events make of it.

Owns nothing but what it was given. Canaries are of tokens that nobody ever sent.
"""

import asyncio
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final, Protocol

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.http_client import EngineHttp
from radixroute.worker.companions.join.checklist import (
    BELIEVED_CANARY,
    Trial,
    canary_prompt,
    check_trial,
)
from radixroute.worker.companions.join.findings import PLACED, Finding, JoinRefused, finding
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.listening import Listening
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.texts import Texts
from radixroute.worker.engine.engine import EngineRequest

_POLL_S: Final = 0.01
_SALTED: Final = RequestScope(salt="canary")
_NO_TOKENS: Final = np.empty(0, np.uint32)


@dataclass(frozen=True, slots=True)
class Patience:
    """How long is waited for what may never come, in seconds."""

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
    batches: int


class Mirrored(Protocol):
    """What an engine holds by its events."""

    def cached_tokens(self, tokens: Any, scope: Any) -> int: ...


class TryingOut:
    """One engine's trial: a prompt must be cached, and events must say so."""

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

    async def run(self, mirror: Mirrored, follower: Followed | None) -> Joined:
        """What it is known as now. Raises `JoinRefused`."""
        joined, kind = self._joined, self._joined.statement.kind
        if follower is not None:
            await _until(lambda: follower.is_begun, self._patience.replay_s)
            if not follower.has_replay and not self._settings.allow_no_replay:
                is_there = joined.place is not None and joined.place.replay
                raise JoinRefused(self._of_place("replay_silent" if is_there else "replay"))
        info = joined.info
        at_least = BELIEVED_CANARY if follower is None else 0
        prompt = canary_prompt(info.block_size, info.vocab_size, info.max_model_len, at_least)
        ends = [await self.send_canary(prompt) for _ in range(2)]
        if not any(ends):
            raise JoinRefused(finding("hangs", f"not in {self._patience.canary_s:g} s", kind=kind))
        trial = _trial(ends, self._status)
        check_trial(trial, joined.statement, self._settings, info.block_size)
        is_told = follower is not None and (
            await self._is_told(mirror, prompt) or await self._is_told_again(mirror, follower)
        )
        if joined.statement.keeps_salts_apart is None:
            salted = await self.send_canary(prompt, _SALTED)
            last = salted[-1] if salted else Heard()
            joined = replace(joined, keeps_salts_apart=cached_of(salted) == 0 and _is_whole(last))
        is_believed = not is_told and trial.has_found
        texts = None
        if not trial.has_token_ids:
            loop = asyncio.get_running_loop()
            texts = await loop.run_in_executor(None, Texts, joined.tokenizer)
        info = replace(info, is_cache_believed=is_believed, cannot_resume=not trial.has_token_ids)
        canary = (len(prompt) - 1, trial.second_cached or 0)
        place = joined.place if is_told else None
        return replace(joined, info=info, texts=texts, canary=canary, place=place)

    async def _is_told(self, mirror: Mirrored, prompt: Tokens) -> bool:
        """By the engine's events, before long."""
        size = self._joined.info.block_size
        wanted = (len(prompt) - 1) // size * size
        return await _until(
            lambda: mirror.cached_tokens(prompt, UNSCOPED) >= wanted, self._patience.heard_s
        )

    async def _is_told_again(self, mirror: Mirrored, follower: Followed) -> bool:
        """Where what was missed cannot be told again, all is forgotten once: the canary as well.
        False: whatever its events tell, they are not believed."""
        info = self._joined.info
        prompt = canary_prompt(info.block_size, info.vocab_size, info.max_model_len)
        if follower.is_cut:
            await self.send_canary(prompt)
        is_told = follower.is_cut and await self._is_told(mirror, prompt)
        if not is_told and not self._settings.allow_no_events:
            code = "events_differ" if follower.batches else "events_silent"
            raise JoinRefused(self._of_place(code))
        return is_told

    def _of_place(self, code: str) -> Finding:
        """What is wrong with where its events are said to be, by the engine or by settings."""
        place, settings = self._joined.place, self._settings
        kind = PLACED if settings.events else self._joined.statement.kind
        if place is None:
            return finding(code, kind=kind)
        return finding(code, place.replay if code.startswith("replay") else place.events, kind=kind)

    async def send_canary(self, prompt: Tokens, scope: RequestScope = UNSCOPED) -> list[Heard]:
        """One token after this prompt: all that was heard, in some time."""
        sampling = SamplingParams(temperature=0.0, max_tokens=1, ignore_eos=True)
        call_id = f"rr-canary-{time.monotonic_ns():x}"
        request = EngineRequest(call_id, 0, "", prompt, sampling, _NO_TOKENS, scope=scope)
        heard: list[Heard] = []
        is_over = asyncio.Event()

        def hear(one: Heard) -> None:
            heard.append(one)
            if one.finish is not None:
                is_over.set()

        dialect = self._joined.dialect

        def refusal(status: int, body: bytes) -> Heard:
            self._status = status
            return dialect.refusal(status, body)

        ask = dialect.call(request, call_id, self._joined.statement.model)
        exchange = self._http.send(ask, Listening(dialect.reader(), refusal, hear))
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(self._patience.canary_s):
                    await is_over.wait()
        finally:
            exchange.cancel()
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
