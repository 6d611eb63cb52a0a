"""Client stream: one answer on its way from the core to its client, alone or beside others.

Owns what the client has not taken yet, merged into one message: a slow client gets larger messages,
never a queue without bound (max_tokens bounds it). While the door is loaded what comes is held
a little. Producers and one consumer, in one loop.
"""

import asyncio

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.errors import BrokenInvariant
from radixroute.request.logprobs import Logprobs, join_logprobs
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.request.wire import finish_to_proto, logprobs_to_proto, sampling_to_proto
from radixroute.router.api.fan import usage_of
from radixroute.router.api.grpc import client_message
from radixroute.router.api.grpc.coalescing import Coalescing
from radixroute.router.api.status import failure_error
from radixroute.router.errors import RouterError
from radixroute.router.messages.actions import Emit, Failure, Usage


class Bell:
    """Wakes the one who waits for any of some streams."""

    def __init__(self) -> None:
        self._waiter: asyncio.Future[None] | None = None

    def ring(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)

    def wait(self) -> "asyncio.Future[None]":
        """Done with the next ring."""
        self._waiter = asyncio.get_running_loop().create_future()
        return self._waiter


class ClientStream:
    """Messages of one answer, in order, then its end."""

    def __init__(
        self,
        request_id: str,
        number: int = 0,
        *,
        index: int = 0,
        bell: Bell | None = None,
        coalescing: Coalescing | None = None,
    ) -> None:
        """`number`: of the stream's resumes before it, this one counted in. `index`: among the
        answers to its prompt, which share a bell. No `coalescing`: all goes at once."""
        self.request_id = request_id
        self.number = number
        self.sampling: SamplingParams | None = None  # for the first message to tell
        self._index = index
        self._head = client_message.head(request_id, index)
        # What waits to be taken, joined then.
        self._position = 0
        self._token_ids: list[bytes] = []
        self._texts: list[str] = []
        self._told: list[Logprobs] = []  # of all its tokens
        self._usage: Usage | None = None
        self._finish: FinishReason | None = None
        self._error: RouterError | None = None
        self._is_over = False
        self._bell = bell or Bell()
        self._coalescing = coalescing
        self._has_sent = self._is_held = False

    @property
    def is_over(self) -> bool:
        """Nothing comes any more but what waits to be taken."""
        return self._is_over

    def put(self, emit: Emit) -> None:
        if not self._token_ids:
            self._position = emit.position
        self._token_ids.append(emit.token_ids)
        self._texts.append(emit.text)
        if emit.logprobs is not None:
            self._told.append(emit.logprobs)
        if emit.usage is not None:
            self._usage = emit.usage
        if emit.finish is not None:
            self._finish = emit.finish
            self._is_over = True
        elif self._waits():
            return
        self._ring()

    def more(self, data: bytes) -> None:
        raise BrokenInvariant("no verbatim request comes by this door")

    def fail(self, failure: Failure, detail: str = "") -> None:
        self.end(failure_error(failure, detail))

    def end(self, error: RouterError) -> None:
        """By this error, once what came before is taken."""
        self._error = error
        self._is_over = True
        self._ring()

    async def take(self) -> bytes | None:
        """The next message; None after the last. Raises how the request failed."""
        while (message := self.poll()) is None and not self._is_over:
            await self._bell.wait()
        return message

    def poll(self) -> bytes | None:
        """The same, without waiting: None, too, while there is none to be sent."""
        if self._is_held:
            return None
        if not self._token_ids:
            if self._error is not None:
                raise self._error
            return None
        token_ids, texts = self._token_ids, self._texts
        self._token_ids, self._texts = [], []
        is_one = len(token_ids) == 1
        message = client_message.message(
            self._head,
            token_ids[0] if is_one else b"".join(token_ids),
            texts[0] if is_one else "".join(texts),
            self._position,
        )
        self._has_sent = True
        is_plain = self._usage is None and self._finish is None and not self._told
        return message if is_plain and self.sampling is None else message + self._more()

    def _waits(self) -> bool:
        """Whether it is held. What comes first never is."""
        coalescing = self._coalescing
        if coalescing is not None and coalescing.count() and self._has_sent and not self._is_held:
            self._is_held = True
            coalescing.hold(self._ring)
        return self._is_held

    def _ring(self) -> None:
        self._is_held = False
        self._bell.ring()

    def _more(self) -> bytes:
        """What only some messages have."""
        more = pb.GenerateResponse()
        if self.sampling is not None:
            more.sampling.CopyFrom(sampling_to_proto(self.sampling))
        if self._usage is not None:
            more.usage.CopyFrom(usage_to_proto(usage_of(self._usage, self._index)))
        if self._finish is not None:
            more.finish_reason = finish_to_proto(self._finish)
        if self._told:
            more.logprobs.CopyFrom(logprobs_to_proto(join_logprobs(self._told)))
        self.sampling = self._usage = self._finish = None
        self._told = []
        return more.SerializeToString()


def usage_to_proto(usage: Usage) -> pb.Usage:
    return pb.Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=usage.cached_tokens,
        output_tokens=usage.output_tokens,
        recomputed_tokens=usage.recomputed_tokens,
        attempts=usage.attempts,
        worker_id=usage.worker_id,
        ttft_ms=usage.ttft_ms,
        queue_ms=usage.queue_ms,
        predicted_tokens=usage.predicted_tokens,
        by_attempt=[
            pb.AttemptUsage(worker_id=one.worker_id, cached_tokens=one.cached_tokens)
            for one in usage.by_attempt
        ],
    )
