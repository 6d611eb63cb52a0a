"""Prompts: from what a client asked to a request with tokens, block keys and complete sampling.

Owns what is remembered of prompts tokenised before (`memo`). Whom a request asks is looked at
first, then every limit (`prompt_checks`), before the core sees it; long prompts are read beside
the loop (`prompt_threads`). Each door hands in its own form of `Asked`. Never logs a prompt.
"""

import dataclasses
import datetime
import secrets
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Final

import msgspec
import numpy as np
from msgspec.structs import replace

from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.chat import NO_DATE
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import validate_last_of_session, validate_scope
from radixroute.router.api.asked import Addressed, Asked, AskedVerbatim
from radixroute.router.api.giants.forms import Reading
from radixroute.router.api.memo.prompt_memo import READER_SHARE, PromptMemo, count_memo
from radixroute.router.api.prompt_checks import (
    Prompt,
    check_model,
    checked_prompt,
    limits_of,
    priority_of,
    require_adapter,
    tenant_of,
)
from radixroute.router.api.prompt_threads import PromptThreads
from radixroute.router.counters import Count
from radixroute.router.errors import NoWorkers, PolicyNotOffered
from radixroute.router.links.handshake import Served
from radixroute.router.messages.inputs import NS_PER_S, VERBATIM_NEED, RequestSpec, session_of
from radixroute.router.policy.registry import policy_named
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings

_NO_TOKENS: Final = np.empty(0, np.uint32)
_NO_KEYS: Final = np.empty(0, np.uint64)


class Addressee(msgspec.Struct, frozen=True):
    """Where a request goes, as far as its client says."""

    arrival_ns: int
    policy: str  # that its client names; empty: none
    served: Served
    tenant: str
    scope: RequestScope


class PromptReader:
    """Reads what clients ask of one router."""

    def __init__(
        self,
        runtime: RouterRuntime,
        settings: RouterSettings,
        today: Callable[[], datetime.date] = datetime.date.today,
    ) -> None:
        """`today`: the day here, which chat templates that ask print, as at an engine's own door;
        the time of day would be another prompt each second."""
        self._runtime = runtime
        self._settings = settings
        self._today = today
        named = {name.strip() for name in settings.client_policies.split(",")}
        self._offered = named | {settings.policy}
        memo_bytes, idle_s = settings.memo_bytes, settings.memo_idle_s
        self._memo = PromptMemo(memo_bytes, idle_s, secrets.token_bytes(32))
        self._threads = PromptThreads(memo_bytes // READER_SHARE, idle_s)
        self._giant_readers = self._threads.giant_readers

    @property
    def memo_bytes(self) -> int:
        """What is remembered of prompts, here and by the readers of giants."""
        return self._memo.n_bytes + self._giant_readers.memo_bytes

    def tick(self) -> None:
        """Forgets what nobody asked for in a while. Now and then."""
        self._memo.tick(self._now_s)
        counts = self._memo.counts + self._giant_readers.memo_counts
        self._runtime.core.count_to(Count.PROMPT_READERS_LOST, self._giant_readers.lost)
        count_memo(counts, self._runtime.core.count_to)

    def close(self) -> None:
        self._threads.close()

    @property
    def _now_s(self) -> float:
        return self._runtime.now_ns() / NS_PER_S

    async def read(
        self, asked: Asked, request_id: str, *, seed: int, remaining_s: float | None
    ) -> RequestSpec:
        """Raises RequestRejected, NoWorkers, PromptUnread and InvalidRequest.

        `seed`: of sampling, if the client gave none. `remaining_s`: until its deadline, if it has
        one.
        """
        to = await self._addressee(asked)
        prompt = await self._prompt(asked, to.served, to.scope, seed)
        spec = self._spec(asked, to, prompt, request_id, remaining_s)
        return replace(spec, resumed=asked.resumed) if asked.resumed is not None else spec

    async def read_verbatim(self, asked: AskedVerbatim, request_id: str) -> RequestSpec:
        """For an engine that understands more of it. Raises what `read` does, and its refusal where
        no worker takes such requests."""
        to = await self._addressee(asked.asked)
        if not self._runtime.core.adapters.may_serve(VERBATIM_NEED + to.scope.lora):
            raise asked.refusal
        check_model(asked.asked, to.served)
        verbatim, prompt = asked.verbatim, None
        if asked.readable is not None:
            with suppress(InvalidRequest):  # its engine may find nothing wrong in it
                prompt = await self._prompt(asked.readable, to.served, to.scope, 0)
        if prompt is None and asked.renders and self._settings.render_verbatim:
            prompt = await self._rendered(asked, request_id, to)
        if prompt is None:
            n_tokens = min(verbatim.n_tokens, to.served.facts.max_model_len - 1)
            prompt = Prompt(_NO_TOKENS, _NO_KEYS, asked.sampling)
            self._runtime.core.count(Count.VERBATIM_UNREAD)
        else:
            n_tokens = len(prompt.tokens)
        self._runtime.core.count(Count.VERBATIM)
        spec = self._spec(asked.asked, to, prompt, request_id, None)
        return replace(spec, verbatim=dataclasses.replace(verbatim, n_tokens=n_tokens))

    async def _rendered(
        self, asked: AskedVerbatim, request_id: str, to: Addressee
    ) -> Prompt | None:
        """As an engine reads it. None: none tells."""
        tokens = await self._runtime.render(asked.verbatim, request_id, to.scope.lora)
        fleet = to.served.facts
        if tokens is None or len(tokens) >= fleet.max_model_len:
            return None
        keys = block_keys(tokens, fleet.block_size, fleet.scope.seed_of(to.scope))
        self._runtime.core.count(Count.VERBATIM_RENDERED)
        return Prompt(tokens, keys, asked.sampling)

    async def served(self) -> Served:
        """What the fleet serves. Raises NoWorkers."""
        return self._runtime.handshake.served or await self._first_served()

    async def _addressee(self, asked: Addressed) -> Addressee:
        arrival_ns = self._runtime.now_ns()
        validate_last_of_session(asked.last_of_session)
        policy = asked.policy
        if policy:
            policy_named(policy)
        if policy and policy not in self._offered and "*" not in self._offered:
            raise PolicyNotOffered(
                f"this router's clients may not name the policy {policy!r}: leave it out"
            )
        served = await self.served()
        tenant = tenant_of(asked)
        return Addressee(arrival_ns, policy, served, tenant, self._scope(asked, tenant))

    def _spec(
        self,
        asked: Addressed,
        to: Addressee,
        prompt: Prompt,
        request_id: str,
        remaining_s: float | None,
    ) -> RequestSpec:
        self._runtime.core.count(Count.SESSIONS_ENDED, asked.last_of_session is not None)
        limit_s = self._settings.request_timeout_s
        left_s = limit_s if remaining_s is None else min(limit_s, remaining_s)
        session = session_of(asked.session_key)
        return RequestSpec(
            request_id=request_id,
            prompt=prompt.tokens,
            keys=prompt.keys,
            sampling=prompt.sampling,
            policy=to.policy or self._usual_policy(session, request_id),
            arrival_ns=to.arrival_ns,
            deadline_ns=self._runtime.now_ns() + round(left_s * NS_PER_S),
            session=session,
            last_of_session=asked.last_of_session,
            tenant=to.tenant,
            priority=priority_of(asked),
            scope=to.scope,
        )

    def _usual_policy(self, session: int | None, request_id: str) -> str:
        """Of who names none: another one's for some, while that is tried."""
        trials = self._runtime.core.trials
        if trials.running is None:
            return trials.usual
        draw = session_of(request_id) if session is None else session
        return trials.policy_of(draw or 0)

    async def _first_served(self) -> Served:
        """Without a worker there is no tokenizer: wait for the first one as for any worker."""
        served = await self._runtime.handshake.wait_served(self._settings.no_worker_wait_s)
        if served is None:
            self._runtime.core.count(Count.NO_WORKERS)
            raise NoWorkers("no worker has joined yet: start workers, or try again in a moment")
        return served

    def _scope(self, asked: Addressed, tenant: str) -> RequestScope:
        """What keeps its blocks apart from others'."""
        own = "" if self._settings.tenants_share_cache else tenant
        if not (asked.lora or asked.cache_salt or own):
            return UNSCOPED
        scope = RequestScope(lora=asked.lora, salt=asked.cache_salt, tenant=own)
        validate_scope(scope)
        if scope.lora:
            require_adapter(scope.lora, self._runtime.core.adapters)
        return scope

    async def _prompt(self, asked: Asked, served: Served, scope: RequestScope, seed: int) -> Prompt:
        check_model(asked, served)
        limits = limits_of(served)
        asked.check(limits)
        root = self._memo.root(served.tokenizer, scope) if asked.is_text else b""
        recall = self._memo.recall(root) if root and asked.giant is None else None
        today = self._today() if asked.is_text else NO_DATE
        reading = Reading(served.tokenizer, limits, recall=recall, today=today)
        checked = partial(checked_prompt, asked, served, limits, scope, seed)
        prompt = await self._threads.read(asked, reading, root, checked)
        self._memo.keep(recall, self._now_s)
        return prompt
