"""Prompts: from what a client asked to a request with tokens, block keys and complete sampling.

Owns the threads on which long prompts are rendered and tokenised, so that streams do not stall
behind one: giant prompts have threads and processes (`giants`) of their own, so that others do not
either. What was tokenised before is remembered (`memo`). Every limit is
checked here, those that need no tokenizer first, before the core sees a request. Each door hands in
its own form of `Asked`. Never logs a prompt.
"""

import asyncio
import datetime
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

import numpy as np

from radixroute.radix.ids import Keys, Tokens
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import (
    MAX_PROMPT_BYTES,
    MAX_TENANT_LEN,
    Limits,
    PartialSampling,
    complete,
    validate_prompt,
    validate_scope,
)
from radixroute.request.pacing import Abandoned
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import unpack_tokens
from radixroute.router.api.asked import Addressed, Asked, AskedVerbatim
from radixroute.router.api.giants.forms import Reading
from radixroute.router.api.giants.readers import GIANT_BYTES, GiantReaders
from radixroute.router.api.memo.prompt_memo import READER_SHARE, PromptMemo, count_memo
from radixroute.router.counters import Count
from radixroute.router.errors import NoWorkers, PolicyNotOffered, UnknownModel
from radixroute.router.links.handshake import Served
from radixroute.router.messages.inputs import (
    DEFAULT_PRIORITY,
    DEFAULT_TENANT,
    N_BANDS,
    NS_PER_S,
    VERBATIM_NEED,
    RequestSpec,
    Resumed,
    session_of,
)
from radixroute.router.policy.registry import policy_named
from radixroute.router.runtime import RouterRuntime
from radixroute.router.settings import RouterSettings
from radixroute.router.workers.members import Adapters

# Some 2,000 characters tokenise in under a millisecond; a thread's hand-over costs a tenth of that.
INLINE_BYTES = 2048
INLINE_IDS_BYTES = 256 * 1024  # 64k token ids are copied and hashed in a fifth of a millisecond
MESSAGE_BYTES = 64  # what a message costs beside its content
THREADS = 2  # of either kind
PAUSE_S = 50e-6  # enough to hand the interpreter over: a sleep of zero takes it back at once
MOST_NAMED = 16  # adapters in an error
_NO_TOKENS: Final = np.empty(0, np.uint32)
_NO_KEYS: Final = np.empty(0, np.uint64)
MOST_RESUMES = 4096  # of one stream: its attempts are numbered with 16 bits for each, in 32


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request's content, validated."""

    tokens: Tokens
    keys: Keys  # of its full blocks
    sampling: SamplingParams


@dataclass(frozen=True, slots=True)
class Addressee:
    """Where a request goes, as far as its client says."""

    arrival_ns: int
    policy: str
    served: Served
    tenant: str
    scope: RequestScope


class Pacer:
    """The `pause` of one prompt on a thread: the loop has its turn; ends work nobody wants."""

    def __init__(self) -> None:
        self._is_wanted = True

    @property
    def is_wanted(self) -> bool:
        return self._is_wanted

    def give_up(self) -> None:
        self._is_wanted = False

    def __call__(self) -> None:
        if not self._is_wanted:
            raise Abandoned
        time.sleep(PAUSE_S)


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
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="prompt")
        self._giants = ThreadPoolExecutor(THREADS, thread_name_prefix="giant prompt")
        memo_bytes, idle_s = settings.memo_bytes, settings.memo_idle_s
        self._memo = PromptMemo(memo_bytes, idle_s, secrets.token_bytes(32))
        self._giant_readers = GiantReaders(memo_bytes // READER_SHARE, idle_s)

    @property
    def memo_bytes(self) -> int:
        """What is remembered of prompts, here and by the readers of giants."""
        return self._memo.n_bytes + self._giant_readers.memo_bytes

    def tick(self) -> None:
        """Forgets what nobody asked for in a while. Now and then."""
        self._memo.tick(self._now_s)
        counts = self._memo.counts + self._giant_readers.memo_counts
        count_memo(counts, self._runtime.core.count_to)

    def close(self) -> None:
        self._giant_readers.close()
        for threads in (self._threads, self._giants):
            threads.shutdown(wait=False, cancel_futures=True)

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
        _check_model(asked.asked, to.served)
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
        return replace(spec, verbatim=replace(verbatim, n_tokens=n_tokens))

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
        settings = self._settings
        arrival_ns = self._runtime.now_ns()
        policy = asked.policy or settings.policy
        policy_named(policy)
        if policy not in self._offered and "*" not in self._offered:
            raise PolicyNotOffered(
                f"this router's clients may not name the policy {policy!r}: leave it out"
            )
        served = await self.served()
        tenant = _tenant(asked)
        return Addressee(arrival_ns, policy, served, tenant, self._scope(asked, tenant))

    def _spec(
        self,
        asked: Addressed,
        to: Addressee,
        prompt: Prompt,
        request_id: str,
        remaining_s: float | None,
    ) -> RequestSpec:
        limit_s = self._settings.request_timeout_s
        left_s = limit_s if remaining_s is None else min(limit_s, remaining_s)
        return RequestSpec(
            request_id=request_id,
            prompt=prompt.tokens,
            keys=prompt.keys,
            sampling=prompt.sampling,
            policy=to.policy,
            arrival_ns=to.arrival_ns,
            deadline_ns=self._runtime.now_ns() + round(left_s * NS_PER_S),
            session=session_of(asked.session_key),
            tenant=to.tenant,
            priority=_priority(asked),
            scope=to.scope,
        )

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
            _require_adapter(scope.lora, self._runtime.core.adapters)
        return scope

    async def _prompt(self, asked: Asked, served: Served, scope: RequestScope, seed: int) -> Prompt:
        _check_model(asked, served)
        limits = _limits(served)
        asked.check(limits)
        threads = self._threads_for(asked)
        root = self._memo.root(served.tokenizer, scope) if asked.is_text else b""
        recall = self._memo.recall(root) if root and asked.giant is None else None
        checked = partial(_checked, asked, served, limits, scope, seed)
        reading = Reading(served.tokenizer, limits, recall=recall, today=self._today())
        if threads is None:
            prompt = checked(asked.tokens(reading))
        else:
            prompt = await self._beside(threads, asked, reading, root, checked)
        self._memo.keep(recall, self._now_s)
        return prompt

    async def _beside(
        self,
        threads: ThreadPoolExecutor,
        asked: Asked,
        reading: Reading,
        root: bytes,
        checked: Callable[[Tokens], Prompt],
    ) -> Prompt:
        """Beside the loop."""
        loop, pacer = asyncio.get_running_loop(), Pacer()
        reading = replace(reading, pause=pacer)
        try:
            return await loop.run_in_executor(
                threads, self._read, asked, reading, root, pacer, checked
            )
        finally:
            pacer.give_up()
            self._runtime.core.count_to(Count.PROMPT_READERS_LOST, self._giant_readers.lost)

    def _read(
        self,
        asked: Asked,
        reading: Reading,
        root: bytes,
        pacer: Pacer,
        checked: Callable[[Tokens], Prompt],
    ) -> Prompt:
        """On a thread."""
        giant = asked.giant
        if giant is None:
            return checked(asked.tokens(reading))
        tokens = self._giant_readers.read(
            giant,
            reading.tokenizer,
            reading.limits,
            lambda: pacer.is_wanted,
            root,
            reading.today,
        )
        return checked(tokens)

    def _threads_for(self, asked: Asked) -> ThreadPoolExecutor | None:
        """None: it takes less time than handing it over."""
        if not asked.is_text:
            return None if asked.n_bytes <= INLINE_IDS_BYTES else self._threads
        work = asked.n_bytes + asked.n_messages * MESSAGE_BYTES
        if work <= INLINE_BYTES:
            return None
        return self._threads if work <= GIANT_BYTES else self._giants


def _limits(served: Served) -> Limits:
    """Text in which each token would have to be longer than any is too long for certain."""
    fleet = served.facts
    most = (fleet.max_model_len - 1) * served.tokenizer.longest_token_bytes
    return Limits(
        max_model_len=fleet.max_model_len,
        vocab_size=fleet.vocab_size,
        max_prompt_bytes=min(MAX_PROMPT_BYTES, most),
    )


def _check_model(asked: Addressed, served: Served) -> None:
    if asked.model not in ("", served.facts.model):
        raise UnknownModel(f"unknown model: this cluster serves {served.facts.model!r}")


def _tenant(asked: Addressed) -> str:
    if len(asked.tenant) > MAX_TENANT_LEN:
        raise InvalidRequest("tenant", f"has more than {MAX_TENANT_LEN} characters")
    return asked.tenant or DEFAULT_TENANT


def _require_adapter(name: str, adapters: Adapters) -> None:
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


def _priority(asked: Addressed) -> int:
    priority = DEFAULT_PRIORITY if asked.priority is None else asked.priority
    if not 0 <= priority < N_BANDS:
        raise InvalidRequest("priority", f"is a band from 0 (first) to {N_BANDS - 1}")
    return priority


def _checked(
    asked: Asked, served: Served, limits: Limits, scope: RequestScope, seed: int, tokens: Tokens
) -> Prompt:
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
