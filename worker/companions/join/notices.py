"""Notices: what an engine may join in spite of, and whoever runs it should know.

Owns nothing but what it was given. Each is a `Finding`; none is looked for where it would need an
engine that nobody else uses and others do.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

import msgspec
import numpy as np

from radixroute.request.sampling import SamplingParams
from radixroute.worker.companions.dialects.common.completions import JSON
from radixroute.worker.companions.dialects.dialect import Ask, EngineNumbers, Heard
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.checklist import CHATS, canary_prompt
from radixroute.worker.companions.join.findings import Finding, finding
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.listening import Listening
from radixroute.worker.companions.sending import UnderWay
from radixroute.worker.engine.engine import EngineRequest

_BEGUN_S: Final = 10.0  # for the first token of one that is cancelled then
_SEEN_S: Final = 0.5  # until its page says that it runs
_FREED_S: Final = 3.0  # vLLM takes a tenth of a second; its page a little longer
_POLL_S: Final = 0.03
_MOST_TOKENS: Final = 4096  # of an answer that should not end by itself meanwhile
_CHAT_S: Final = 60.0
_CHAT_TOKENS: Final = 16
_NO_TOKENS: Final = np.empty(0, np.uint32)


class _Message(msgspec.Struct):
    reasoning: str | None = None
    reasoning_content: str | None = None  # its older name


class _Choice(msgspec.Struct):
    message: _Message = msgspec.field(default_factory=_Message)


class _Chat(msgspec.Struct):
    choices: list[_Choice] = []


class Noticing:
    """One engine that joined, or could."""

    def __init__(self, http: EngineHttp, joined: Joined) -> None:
        self._http = http
        self._joined = joined

    def said(self) -> list[Finding]:
        """By what it says of itself alone."""
        statement = self._joined.statement
        if not statement.reasoning_parser:
            return []
        return [finding("reasoning", statement.reasoning_parser, kind=statement.kind)]

    async def tried(self) -> list[Finding]:
        """By what it does, too: with one request that is cancelled, and a few tokens of a chat.
        Takes seconds where the engine is slow: a join does without."""
        statement, found = self._joined.statement, self.said()
        if not found and await self._takes_reasoning_apart():
            found.append(finding("reasoning", "", kind=statement.kind))
        if await self._frees_cancelled() is False:
            found.insert(0, finding("cancel", kind=statement.kind))
        return found

    async def _frees_cancelled(self) -> bool | None:
        """Whether a request ends there when its connection is closed. None: it does not show."""
        numbers = await self._numbers()
        if not numbers.ranks or numbers.running or numbers.waiting:
            return None  # with requests of others nobody knows whose ended
        has_begun = asyncio.Event()

        def hear(heard: Heard) -> None:
            if heard.token_ids or heard.finish is not None:
                has_begun.set()

        under_way = self._begin(hear)
        try:
            with suppress(TimeoutError):
                async with asyncio.timeout(_BEGUN_S):
                    await has_begun.wait()
            is_seen = await self._shows(is_running=True, within_s=_SEEN_S)
        finally:
            under_way.cancel()
        return await self._shows(is_running=False, within_s=_FREED_S) if is_seen else None

    def _begin(self, hear: Callable[[Heard], None]) -> UnderWay:
        joined, info = self._joined, self._joined.info
        prompt = canary_prompt(info.block_size, info.vocab_size, info.max_model_len)
        n = min(_MOST_TOKENS, info.max_model_len - len(prompt) - 1)
        sampling = SamplingParams(temperature=0.0, max_tokens=max(1, n), ignore_eos=True)
        call_id = f"rr-canary-{time.monotonic_ns():x}"
        request = EngineRequest(call_id, 0, "", prompt, sampling, _NO_TOKENS)
        dialect, rank = joined.dialect, joined.rank_of(0)
        ask = dialect.call(request, call_id, joined.statement.model, rank=rank)
        listening = Listening(dialect.reader(), dialect.refusal, hear)
        return UnderWay(self._http, self._http.send(ask, listening), dialect.abort(call_id))

    async def _shows(self, *, is_running: bool, within_s: float) -> bool:
        """Whether its page says so, before long."""
        give_up_s = time.monotonic() + within_s
        while bool((await self._numbers()).running) is not is_running:
            if time.monotonic() > give_up_s:
                return False
            await asyncio.sleep(_POLL_S)
        return True

    async def _numbers(self) -> EngineNumbers:
        page = await self._http.ask(self._joined.dialect.metrics())
        return self._joined.dialect.numbers(page.body) if page.is_ok else EngineNumbers()

    async def _takes_reasoning_apart(self) -> bool:
        """Whether a chat's answer has what the model thought beside what it says."""
        body = {"model": self._joined.statement.model, "messages": CHATS[0], "temperature": 0.0}
        data = msgspec.json.encode({**body, "max_tokens": _CHAT_TOKENS})
        answer = await self._http.ask(Ask("POST", "/v1/chat/completions", JSON, data), _CHAT_S)
        try:
            chat = msgspec.json.decode(answer.body, type=_Chat) if answer.is_ok else _Chat()
        except msgspec.MsgspecError:
            return False
        messages = (choice.message for choice in chat.choices)
        return any(one.reasoning or one.reasoning_content for one in messages)
