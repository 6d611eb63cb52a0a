"""Prompts: from what a client asked to a request with tokens, block keys and complete sampling.

Owns the threads on which long prompts are rendered and tokenised, so that streams do not stall
behind one: giant prompts have threads and processes (`giants`) of their own, so that others do not
either. What was tokenised before is remembered (`memo`). Every limit is
checked here, those that need no tokenizer first, before the core sees a request. Each door hands in
its own form of `Asked`. Never logs a prompt.
"""

import asyncio
import secrets
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

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
from radixroute.router.api.giants.forms import Reading
from radixroute.router.api.giants.readers import GIANT_BYTES, Giant, GiantReaders
from radixroute.router.api.memo.prompt_memo import READER_SHARE, PromptMemo, count_memo
from radixroute.router.counters import Count
from radixroute.router.errors import NoWorkers, PolicyNotOffered, UnknownModel
from radixroute.router.links.handshake import Served
from radixroute.router.messages.inputs import (
    DEFAULT_PRIORITY,
    DEFAULT_TENANT,
    N_BANDS,
    NS_PER_S,
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
MOST_RESUMES = 4096  # of one stream: its attempts are numbered with 16 bits for each, in 32


class Asked(Protocol):
    """What a client asked, in the form in which its door has it. Raises InvalidRequest."""

    @property
    def model(self) -> str:
        """Empty: whatever is served."""

    @property
    def policy(self) -> str:
        """Empty: the router's."""

    @property
    def session_key(self) -> str:
        """What the client calls its session; empty: it has none."""

    @property
    def tenant(self) -> str:
        """Empty: the default one."""

    @property
    def cache_salt(self) -> str:
        """Who shares what is cached with it; empty: all that have none."""

    @property
    def lora(self) -> str:
        """Name of an adapter; empty: the model as it is."""

    @property
    def priority(self) -> int | None:
        """Band; None: the default one."""

    @property
    def is_text(self) -> bool:
        """It must be tokenised."""

    @property
    def n_bytes(self) -> int:
        """Of the prompt as it came, or a little more."""

    @property
    def resumed(self) -> Resumed | None:
        """What its client has already; None: nothing, it begins."""

    @property
    def n_messages(self) -> int:
        """Of a chat; 0: it is none."""

    @property
    def giant(self) -> Giant | None:
        """Its prompt as it came, if that is not even to be parsed beside the loop."""

    def check(self, limits: Limits) -> None:
        """What can be seen before anything is converted. O(1), but for what is over a limit."""

    def tokens(self, reading: Reading) -> Tokens:
        """Not of a giant."""

    def sampling(self) -> PartialSampling: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request's content, validated."""

    tokens: Tokens
    keys: Keys  # of its full blocks
    sampling: SamplingParams


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

    def __init__(self, runtime: RouterRuntime, settings: RouterSettings) -> None:
        self._runtime = runtime
        self._settings = settings
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
        now_ns, settings = self._runtime.now_ns, self._settings
        arrival_ns = now_ns()
        policy = asked.policy or settings.policy
        policy_named(policy)
        if policy not in self._offered and "*" not in self._offered:
            raise PolicyNotOffered(
                f"this router's clients may not name the policy {policy!r}: leave it out"
            )
        served = self._runtime.handshake.served or await self._first_served()
        tenant = _tenant(asked)
        scope = self._scope(asked, tenant)
        prompt = await self._prompt(asked, served, scope, seed)
        limit_s = settings.request_timeout_s
        left_s = limit_s if remaining_s is None else min(limit_s, remaining_s)
        return RequestSpec(
            request_id=request_id,
            prompt=prompt.tokens,
            keys=prompt.keys,
            sampling=prompt.sampling,
            policy=policy,
            arrival_ns=arrival_ns,
            deadline_ns=now_ns() + round(left_s * NS_PER_S),
            session=session_of(asked.session_key),
            tenant=tenant,
            priority=_priority(asked),
            resumed=asked.resumed,
            scope=scope,
        )

    async def _first_served(self) -> Served:
        """Without a worker there is no tokenizer: wait for the first one as for any worker."""
        served = await self._runtime.handshake.wait_served(self._settings.no_worker_wait_s)
        if served is None:
            self._runtime.core.count(Count.NO_WORKERS)
            raise NoWorkers("no worker has joined yet: start workers, or try again in a moment")
        return served

    def _scope(self, asked: Asked, tenant: str) -> RequestScope:
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
        fleet = served.facts
        if asked.model not in ("", fleet.model):
            raise UnknownModel(f"unknown model: this cluster serves {fleet.model!r}")
        limits = _limits(served)
        asked.check(limits)
        threads = self._threads_for(asked)
        root = self._memo.root(served.tokenizer, scope) if asked.is_text else b""
        recall = self._memo.recall(root) if root and asked.giant is None else None
        checked = partial(_checked, asked, served, limits, scope, seed)
        reading = Reading(served.tokenizer, limits, recall=recall)
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
            giant, reading.tokenizer, reading.limits, lambda: pacer.is_wanted, root
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


def _tenant(asked: Asked) -> str:
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


def _priority(asked: Asked) -> int:
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
