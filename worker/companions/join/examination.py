"""Examination: what a join would be refused for, without joining; all of it, not the first alone.

Asks what `Joining` asks and tries out what it tries out. Believes nothing afterwards: whoever
examined an engine has no worker. The engine is not changed, but that a few short prompts of nobody
run there, and only where that is asked for.
"""

import asyncio
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import Enum
from typing import Any, Final

from radixroute.events.warm import warm
from radixroute.events.wire.records import Event
from radixroute.radix.keys.scope import RequestScope
from radixroute.request.chat import ChatMessage
from radixroute.request.errors import RequestError
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.dialects.dialect import Statement
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.answering import Answered, Answering
from radixroute.worker.companions.join.checklist import CHATS, canary_prompt, statement_findings
from radixroute.worker.companions.join.findings import Finding, JoinRefused, finding
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.join.joining import NO_STATUS, Joining
from radixroute.worker.companions.join.notices import Noticing
from radixroute.worker.companions.join.pacing import Pace, Pacing
from radixroute.worker.companions.join.trying_out import PATIENCE, Patience, TryingOut, cached_of
from radixroute.worker.companions.ranks import Ranks
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings

# What a finding stands in the way of seeing is seen once that is allowed.
_ALLOWED_BY: Final = {
    "replay": "allow_no_replay",
    "replay_silent": "allow_no_replay",
    "cached_tokens": "allow_no_cached_tokens",
    "prefix_caching": "allow_no_events",
    "events_silent": "allow_no_events",
    "events_not_live": "allow_no_events",
    "events_differ": "allow_no_events",
}

# What is no wonder where something else is so.
_EXPLAINED_BY: Final = {
    "events_silent": "events_connect",
    "events_not_live": "events_connect",
}
# It answers no prompt: nothing more can be tried out.
_UNANSWERED: Final = {"canary", "hangs", "prompts"}
_SLOW_S: Final = 1.0  # for what an engine says of itself

_LOOKS: Final = 8  # one of two engines is seen alone by chance once in 128
_UNSIZED: Final = {"block_size", "max_model_len"}  # without these nothing can be tried out


class Asks(Enum):
    """What an engine is to answer, beside what it says of itself."""

    NOTHING = "nothing"  # it costs it nothing
    PROBES = "probes"  # of `answering.py`: a few tokens
    PROMPTS = "prompts"  # these, and all that a join tries out


@dataclass(frozen=True, slots=True)
class Examination:
    """What was seen of one engine. None: it was not found out."""

    url: str
    findings: tuple[Finding, ...] = ()
    notices: tuple[Finding, ...] = ()  # what it would join in spite of
    statement: Statement | None = None
    tokenizer: str = ""  # fingerprint of the one that it was compared with
    has_template_here: bool | None = None  # that takes a chat
    has_template_there: bool | None = None
    # Batches that its replay still had, where it had not all of them.
    kept_batches: int | None = None
    was_tried: bool = False  # prompts ran there
    # Its cache would be believed, as nothing tells of it: by its kind, or as settings allow.
    is_believed: bool | None = None
    # When its process began, Unix time, as pages over connections of their own say, each once: more
    # than one are more than one engine. Empty: it does not say.
    lives: tuple[float, ...] = ()
    steps: int | None = None  # it had made at the end; None: it does not say
    # To the probes of `answering.py`; empty: it was not asked, or does not tell.
    answers: tuple[Answered, ...] = ()
    # Of its tokens. None: it was not timed, as others used it, or it answers no prompt.
    pace: Pace | None = None
    # Of its KV cache, as a worker beside it would tell it; None: its tokenizer is not here.
    kv_dtype: str | None = None


async def examine(
    settings: CompanionSettings,
    url: str,
    worker: WorkerSettings,
    *,
    tokenizer: Tokenizer | None = None,
    asks: Asks = Asks.PROMPTS,
    patience: Patience = PATIENCE,
) -> Examination:
    """Raises `BadSetting` for what is no URL."""
    examiner = _Examiner(settings, url, worker, tokenizer, patience)
    try:
        await examiner.run(asks)
    finally:
        await examiner.close()
    return examiner.seen


class _Examiner:
    """Of one engine. Owns its connections, and what follows its events while it runs."""

    def __init__(
        self,
        settings: CompanionSettings,
        url: str,
        worker: WorkerSettings,
        tokenizer: Tokenizer | None,
        patience: Patience,
    ) -> None:
        self._settings = settings
        self._patience = patience
        self._joining = Joining(settings, url, worker, tokenizer, patience=patience)
        self._http: EngineHttp | None = None
        self._ranks: Ranks | None = None
        self.seen = Examination(self._joining.url)

    async def close(self) -> None:
        if self._http is not None:
            self._http.close()
        if self._ranks is not None:
            await self._ranks.unfollow()

    async def run(self, asks: Asks) -> None:
        try:
            http = self._http = self._joining.http()
            if not await self._is_well(http):
                return
            statement = await self._joining.statement(http)
        except JoinRefused as error:
            self._found(error.finding)
            return
        by_nature = None if statement.could_tell_events else True
        self.seen = replace(self.seen, statement=statement, is_believed=by_nature)
        wrong = tuple(statement_findings(statement, self._settings))
        self._found(*wrong)
        lives, steps = await self._joining.lives(_LOOKS)
        self.seen = replace(self.seen, lives=lives, steps=steps)
        if len(lives) > 1:  # nobody knows which one is tried
            return
        if asks is Asks.PROMPTS:
            await self._send_prompts(http, statement, wrong)
        elif asks is Asks.PROBES and not wrong:
            await self._ask_probes(http, statement)

    async def _send_prompts(
        self, http: EngineHttp, statement: Statement, wrong: Sequence[Finding]
    ) -> None:
        """`wrong`: what was found of it by its words alone."""
        try:
            tokenizer = await self._joining.load_tokenizer(statement)
        except JoinRefused as error:
            self._found(error.finding)
            return
        joined = self._joining.joined(statement, tokenizer)
        self.seen = replace(self.seen, kv_dtype=joined.scope.kv_dtype)
        can_be_tried = not {one.code for one in wrong} & _UNSIZED
        if can_be_tried:
            # Its events are read by kernels, which take their time to load.
            await asyncio.get_running_loop().run_in_executor(None, warm)
        try:
            async with asyncio.timeout(self._patience.examined_s):
                await self._compare(http, tokenizer, statement)
                if can_be_tried:
                    await self._try_out(http, joined)
        except TimeoutError:
            await self._found_hanging(statement)
        else:
            if self.seen.was_tried and not self._codes & _UNANSWERED:
                self.seen = replace(self.seen, pace=await Pacing(http, joined).run())
            _, steps = await self._joining.lives(1)
            self.seen = replace(self.seen, steps=steps)

    async def _ask_probes(self, http: EngineHttp, statement: Statement) -> None:
        """Of one that serves already; whose tokenizer is not here is not asked."""
        try:
            tokenizer = await self._joining.load_tokenizer(statement)
        except JoinRefused:
            return
        joined = self._joining.joined(statement, tokenizer)
        answers = await Answering(http, joined).run()
        self.seen = replace(self.seen, answers=answers, kv_dtype=joined.scope.kv_dtype)

    async def _found_hanging(self, statement: Statement) -> None:
        """It was given up: by its steps it stands still, or is merely slow."""
        _, steps = await self._joining.lives(1)
        before, after = self.seen.steps, f"not in {self._patience.examined_s:g} s"
        is_still = steps is not None and steps == before
        slow = "" if is_still else await self._slow_page()
        if slow:  # then it is no prompt that takes long
            self._found(finding("late", slow, kind=statement.kind))
        else:
            what = f"{after}; no step is made" if is_still else after
            self._found(finding("hangs", what, kind=statement.kind))
        self.seen = replace(self.seen, steps=steps)

    async def _slow_page(self) -> str:
        """Whether even its health takes long, and how long; empty: it does not."""
        if self._http is None:
            return ""
        began_s = time.monotonic()
        path, _ = await self._joining.health(self._http)
        took_s = time.monotonic() - began_s
        return f"{path} after {took_s:.1f} s" if took_s >= _SLOW_S else ""

    async def _is_well(self, http: EngineHttp) -> bool:
        """Else it says so: a server that is no engine answers, too."""
        try:
            await self._joining.await_engine(http)
        except JoinRefused as error:
            if error.finding.code != "unreachable":  # as by a key that is wanted
                self._found(error.finding)
                return False
            path, status = await self._joining.health(http)
            detail = f"{path} answers {status}" if status else ""
            self._found(finding("unreachable" if status in NO_STATUS else "models", detail))
            return False
        return True

    @property
    def _codes(self) -> set[str]:
        return {one.code for one in self.seen.findings}

    def _found(self, *found: Finding) -> None:
        known = self._codes
        known |= {code for code, reason in _EXPLAINED_BY.items() if reason in known}
        fresh = tuple(one for one in found if one.code not in known)
        self.seen = replace(self.seen, findings=(*self.seen.findings, *fresh))

    async def _compare(self, http: EngineHttp, tokenizer: Tokenizer, statement: Statement) -> None:
        try:
            await self._joining.compare_tokens(http, tokenizer, statement)
        except JoinRefused as error:
            self._found(error.finding)
        self.seen = replace(
            self.seen,
            tokenizer=tokenizer.fingerprint,
            has_template_here=_takes_chats(tokenizer),
            has_template_there=await self._joining.takes_chats(http, statement),
        )

    async def _try_out(self, http: EngineHttp, joined: Joined) -> None:
        if self._settings.allow_no_events:
            joined = replace(joined, places=())
        ranks = self._ranks = Ranks(joined, Salts(), self)
        ranks.start()
        self.seen = replace(self.seen, was_tried=True)
        settings = self._settings
        while (wrong := await self._wrong(http, joined, settings, ranks)) is not None:
            self._found(wrong)
            allowed = _ALLOWED_BY.get(wrong.code)
            if allowed is None or getattr(settings, allowed):
                break
            settings = _allowing(settings, allowed)
        if self._codes & _UNANSWERED:
            return
        if "prefix_caching" in self._codes:
            self.seen = replace(self.seen, is_believed=False)  # there is nothing to believe in
        kept = [one.next_seq - one.known_from for one in ranks.followers if one.known_from]
        if kept:
            self.seen = replace(self.seen, kept_batches=min(kept))
        if joined.statement.keeps_salts_apart:  # else salts are refused, or were tried out
            await self._try_salt(http, joined)
        notices = await Noticing(http, joined).tried()
        answers = () if self.seen.findings else await Answering(http, joined).run()
        self.seen = replace(self.seen, notices=tuple(notices), answers=answers)

    async def _wrong(
        self, http: EngineHttp, joined: Joined, settings: CompanionSettings, ranks: Ranks
    ) -> Finding | None:
        """The first thing under these settings."""
        try:
            trying = TryingOut(settings, http, joined, self._patience)
            tried = await trying.run(ranks.caches)
        except JoinRefused as error:
            return error.finding
        if not self.seen.findings:
            self.seen = replace(self.seen, is_believed=tried.info.is_cache_believed)
        return None

    async def _try_salt(self, http: EngineHttp, joined: Joined) -> None:
        """What one salt has cached serves no other."""
        info = joined.info
        prompt = canary_prompt(info.block_size, info.vocab_size, info.max_model_len)
        trying = TryingOut(self._settings, http, joined, self._patience)
        rank = joined.rank_of(0)
        for scope in (RequestScope(salt=secrets.token_hex(8)) for _ in range(2)):
            cached = cached_of(await trying.send_canary(prompt, scope, rank))
            if (cached or 0) >= info.block_size:
                self._found(finding("salt", kind=joined.statement.kind))
                return

    # -- RanksListener

    def on_cache(self, events: Sequence[Event], rank: int) -> None:
        """Nobody else hears of it."""

    def on_link_lost(self) -> None:
        """Nobody serves here: there is nothing to end."""


def _allowing(settings: CompanionSettings, name: str) -> CompanionSettings:
    change: dict[str, Any] = {name: True}
    return replace(settings, **change)


def _takes_chats(tokenizer: Tokenizer) -> bool:
    try:
        tokenizer.encode_chat([ChatMessage(**message) for message in CHATS[0]])
    except RequestError:
        return False
    return True
