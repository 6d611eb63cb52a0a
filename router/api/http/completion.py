"""Completion: one request of this door from its body to its last byte.

Owns the streams of its answers, each a request of its own behind the `Reception`. However it ends,
whoever's fault that is, all of them are released.
"""

import asyncio
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from msgspec.structs import replace

from radixroute.radix.errors import BrokenInvariant
from radixroute.request.errors import InvalidRequest
from radixroute.request.wire import traceparent_of
from radixroute.router.api.asked import AskedVerbatim
from radixroute.router.api.giants.forms import Form
from radixroute.router.api.http import replies
from radixroute.router.api.http.answers import Answers, Flow, Streamed, Whole
from radixroute.router.api.http.asked.bodies import Read, read_body
from radixroute.router.api.http.asked.fields import NotSpoken
from radixroute.router.api.http.asked.openai_request import (
    Defaults,
    OpenAIRequest,
    Sender,
    asked_for,
    last_of_session,
)
from radixroute.router.api.http.asked.verbatim_body import read_verbatim
from radixroute.router.api.http.connection import HttpConnection
from radixroute.router.api.http.passing import Passing
from radixroute.router.api.http.probabilities import Probabilities
from radixroute.router.api.http.replies import Header
from radixroute.router.api.http.request_reader import Incoming
from radixroute.router.api.http.stream_head import StreamHead
from radixroute.router.api.http.wording import Totals, Wording
from radixroute.router.api.reception import Reception
from radixroute.router.api.status import failure_error
from radixroute.router.counters import Count
from radixroute.router.errors import RouterError
from radixroute.router.links.handshake import Served
from radixroute.router.messages.actions import Emit, Failure
from radixroute.router.messages.inputs import RequestSpec

_log = logging.getLogger(__name__)

MAX_ID_LEN: Final = 128  # of a client's own id of a request, which it gets back
_PRINTABLE = re.compile(r"[\x21-\x7e]+")
_NOT_TEXT = InvalidRequest(
    "messages", "have more in them than text: the engines of this cluster read text"
)


@dataclass(frozen=True, slots=True)
class Desk:
    """What completions need of the router."""

    reception: Reception
    client_fields: frozenset[str]  # that clients may set though they reach into an engine
    defaults: Callable[[], Defaults]  # of the model served; not before one is
    wall_s: Callable[[], float]
    now_s: Callable[[], float]  # only ever grows
    sign_s: float  # how long a stream is silent at most; 0: as long as it takes


class Choice:
    """One answer's stream."""

    __slots__ = ("_completion", "flow", "index", "number", "request_id")

    def __init__(self, completion: "Completion", request_id: str, index: int) -> None:
        self._completion = completion
        self.request_id = request_id
        self.index = index
        self.number = 0  # nothing is resumed here
        self.flow: Flow | None = None  # while it streams

    def put(self, emit: Emit) -> None:
        flow = self.flow
        is_more_than_text = emit.finish is not None or emit.logprobs is not None
        if flow is None or is_more_than_text or not flow.tell(emit.text):
            self._completion.put(self.index, emit)

    def more(self, data: bytes) -> None:
        self._completion.more(data)

    def fail(self, failure: Failure, detail: str = "") -> None:
        self._completion.failed(failure_error(failure, detail))

    def end(self, error: RouterError) -> None:
        self._completion.failed(error)


class Completion:
    """Of one client's request."""

    def __init__(
        self, incoming: Incoming, connection: HttpConnection, desk: Desk, *, is_chat: bool
    ) -> None:
        self._incoming = incoming
        self._connection = connection
        self._desk = desk
        self._reception = desk.reception
        self._is_chat = is_chat
        self._tenant = incoming.tenant
        self._request_id = desk.reception.draw_id(self._tenant)  # of its first answer
        self._id_headers = _id_headers(incoming, self._request_id)
        self._choices: list[Choice] = []
        self._answers: Answers | None = None
        self._passing: Passing | None = None  # the same, of one that goes by as it is
        self._head: StreamHead | None = None  # of a stream
        self._totals = Totals()
        self._n = self._n_open = 0
        self._has_begun = self._is_over = False
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """One task for a request; none for a token."""
        self._task = asyncio.get_running_loop().create_task(self._ask())

    def lost(self) -> None:
        self._is_over = True
        if self._task is not None:
            self._task.cancel()
        self._release()

    def resumed(self) -> None:
        if self._answers is not None:
            self._answers.resumed()

    def look(self, now_s: float) -> None:
        looks = self._passing or self._head
        if looks is not None and not self._is_over and looks.look(now_s):
            self._reception.runtime.core.count(Count.HTTP_HEADS_EARLY)

    # -- what its choices tell

    def put(self, index: int, emit: Emit) -> None:
        answers = self._answers
        if self._is_over or answers is None:
            return
        if not self._has_begun:
            self._has_begun = True
            answers.begin(self._headers(emit))
            if isinstance(answers, Streamed):
                for choice in self._choices:
                    choice.flow = answers.flow(choice.index)
        answers.put(index, emit)
        if emit.finish is not None:
            if emit.usage is not None:
                self._totals = self._totals.plus(emit.usage, index % self._n)
            self._n_open -= 1
            if not self._n_open:
                self._is_over = True
                self._release_soon()
                answers.finish(self._totals)

    def more(self, data: bytes) -> None:
        """Of an answer that goes by as it is."""
        if self._passing is not None and not self._is_over:
            self._passing.more(data)

    def failed(self, error: Exception) -> None:
        """None of its answers goes on."""
        if self._is_over:
            return
        self._is_over = True
        for choice in self._choices:
            choice.flow = None
        self._release_soon()
        self._reception.refused(error)
        problem = replies.problem_of(error, self._request_id)
        if self._has_begun and self._answers is not None:
            self._answers.fail(problem)
            return
        if self._head is not None and self._head.is_out:
            self._head.fail(problem)
            return
        after = replies.retry_after(self._reception.retry_after_ms(error))
        self._connection.explain(problem, (*self._id_headers, *after))

    # -- asking

    async def _ask(self) -> None:
        try:
            data, self._incoming.body = self._incoming.body, b""
            specs = await self._ask_here(data)
            for spec, choice in zip(specs, list(self._choices), strict=True):
                if not self._is_over:
                    self._reception.submit(spec, choice)
        except (RouterError, InvalidRequest) as error:
            self.failed(error)
        except Exception as error:  # noqa: BLE001 - its text may say anything
            _log.exception("request %s failed inside the router", self._request_id)
            self.failed(error)

    async def _ask_here(self, data: bytes) -> list[RequestSpec]:
        """What it asks for, read; or handed on, if only another's engine understands it."""
        allowed = self._desk.client_fields
        try:
            read = read_body(data, is_chat=self._is_chat, allowed=allowed)
        except NotSpoken as refusal:
            return await self._ask_verbatim(data, refusal)
        if not await self._is_spoken(read):
            return await self._ask_verbatim(data, _NOT_TEXT)
        if read.body.stream:
            self._head = self._stream_head()
        self._reception.runtime.core.count(Count.FIELDS_DROPPED, read.n_dropped)
        asked = [self._asked(read, form, prompt) for form, prompt in read.prompts]
        self._n, self._n_open = read.n, read.n_answers
        specs = [spec for one in asked for spec in await self._admit(one, read.n)]
        served = self._reception.runtime.handshake.served
        if served is None:
            raise BrokenInvariant("a prompt was read without a tokenizer")
        self._answers = self._answers_to(read, served)
        return specs

    def _stream_head(self) -> StreamHead:
        sign_s, now_s = self._desk.sign_s, self._desk.now_s()
        return StreamHead(self._connection, self._id_headers, sign_s=sign_s, now_s=now_s)

    async def _is_spoken(self, read: Read) -> bool:
        """False: its chat has more in it than text, and somebody understands that. Who serves alone
        what the door speaks does not look."""
        if not self._reception.may_take_verbatim:
            return True
        for number, is_plain in enumerate(read.plain_pieces()):
            if not is_plain:
                return not await self._reception.takes_verbatim()
            if number:
                await asyncio.sleep(0)  # others have their turn
        return True

    async def _ask_verbatim(self, data: bytes, refusal: InvalidRequest) -> list[RequestSpec]:
        """As it is, to an engine that understands it. Raises `refusal` where there is none."""
        body = read_verbatim(data, is_chat=self._is_chat, allowed=self._desk.client_fields)
        self._head = self._stream_head() if body.is_stream else None
        self._reception.runtime.core.count(Count.FIELDS_DROPPED, body.n_dropped)
        sender = self._sender(body.model, body.prompt_cache_key, body.cache_salt, body.priority)
        readable = None
        if body.readable is not None:
            typed, form, prompt = body.readable
            readable = asked_for(sender, typed, form, prompt, self._desk.defaults)
        self._n = self._n_open = 1
        self._claim(self._request_id)
        (stream,) = self._choices
        asked = AskedVerbatim(
            asked=sender,
            verbatim=body.verbatim,
            readable=readable,
            renders=body.renders,
            sampling=body.sampling,
            refusal=refusal,
        )
        spec = await self._reception.admit_verbatim(asked, self._request_id)
        allow = partial(self._reception.allow, stream)
        self._passing = Passing(self._connection, allow, self._head)
        self._answers = self._passing
        return [self._traced(spec)]

    def _asked(self, read: Read, form: Form, prompt: bytes) -> OpenAIRequest:
        body = read.body
        sender = self._sender(
            body.model or "", body.prompt_cache_key or "", read.cache_salt, read.priority
        )
        return asked_for(sender, body, form, prompt, self._desk.defaults)

    def _sender(self, model: str, cache_key: str, salt: str, priority: int | None) -> Sender:
        is_adapter = model in self._reception.runtime.core.adapters.served
        return Sender(
            session_key=self._incoming.header(b"x-session-id") or cache_key,
            last_of_session=last_of_session(self._incoming.header(b"x-session-last")),
            tenant=self._tenant,
            model="" if is_adapter else model,
            lora=model if is_adapter else "",
            cache_salt=salt,
            priority=priority,
        )

    async def _admit(self, asked: OpenAIRequest, n: int) -> list[RequestSpec]:
        """One prompt, as the requests of its answers."""
        first = not self._choices
        request_id = self._request_id if first else self._reception.draw_id(self._tenant)
        self._claim(request_id)
        spec = await self._reception.admit(asked, request_id, remaining_s=None)
        spec = self._traced(spec)
        specs = self._reception.fan_out(spec, n) if n > 1 else (spec,)
        for other in specs[1:]:
            self._claim(other.request_id)
        return list(specs)

    def _traced(self, spec: RequestSpec) -> RequestSpec:
        told = self._incoming.header(b"traceparent")
        traceparent = traceparent_of(told) if told else ""
        return replace(spec, traceparent=traceparent) if traceparent else spec

    def _claim(self, request_id: str) -> None:
        choice = Choice(self, request_id, len(self._choices))
        self._choices.append(choice)
        self._reception.claim(choice)

    def _answers_to(self, read: Read, served: Served) -> Answers:
        body, options = read.body, read.body.stream_options
        wording = Wording(
            self._request_id,
            body.model or served.facts.model,
            int(self._desk.wall_s()),
            is_chat=self._is_chat,
            tells_usage=options is not None and bool(options.include_usage),
        )
        probabilities = Probabilities(served.tokenizer, is_chat=self._is_chat)
        n, connection = read.n_answers, self._connection
        if self._head is not None:
            return Streamed(connection, self._head, wording, probabilities, n)
        return Whole(connection, wording, probabilities, n)

    def _release_soon(self) -> None:
        """Not in the middle of what the core wants done: an abort could pass what it follows."""
        asyncio.get_running_loop().call_soon(self._release)

    def _release(self) -> None:
        choices, self._choices = self._choices, []
        for choice in choices:
            self._reception.release(choice)

    # -- heads

    def _headers(self, emit: Emit) -> tuple[Header, ...]:
        """With the first output its worker is known, and what that had cached."""
        usage = emit.usage
        if usage is None:
            return self._id_headers
        told = (
            *self._id_headers,
            (b"X-Radixroute-Worker", usage.worker_id.encode()),
            (b"X-Radixroute-Predicted-Tokens", b"%d" % usage.predicted_tokens),
        )
        if emit.passage is not None and usage.by_attempt[-1].cached_tokens is None:
            return told  # an engine's own stream tells at its end, if at all
        return (*told, (b"X-Radixroute-Cached-Tokens", b"%d" % usage.cached_tokens))


def _id_headers(incoming: Incoming, request_id: str) -> tuple[Header, ...]:
    """What each answer has: its client's own id of it, if it gave one, and ours."""
    ours, theirs = request_id.encode(), incoming.header(b"x-request-id")
    told = theirs[:MAX_ID_LEN].encode() if _PRINTABLE.fullmatch(theirs) else ours
    return (b"X-Request-Id", told), (b"X-Radixroute-Request-Id", ours)
