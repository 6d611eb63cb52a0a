"""Client stream: one answer on its way from the core to its client, alone or beside others.

Owns what the client has not taken yet, merged into one message: a slow client gets larger messages,
never a queue without bound (max_tokens bounds it). Producers and one consumer, in one loop.
"""

import asyncio

from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.errors import BrokenInvariant
from radixroute.request.logprobs import Logprobs, join_logprobs
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import finish_to_proto, logprobs_to_proto, sampling_to_proto
from radixroute.router.api.fan import usage_of
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

    async def wait(self) -> None:
        self._waiter = asyncio.get_running_loop().create_future()
        await self._waiter


class ClientStream:
    """Messages of one answer, in order, then its end."""

    def __init__(
        self, request_id: str, number: int = 0, *, index: int = 0, bell: Bell | None = None
    ) -> None:
        """`number`: of the stream's resumes before it, this one counted in. `index`: among the
        answers to its prompt, which share a bell."""
        self.request_id = request_id
        self.number = number
        self.sampling: SamplingParams | None = None  # for the first message to tell
        self._index = index
        self._pending: pb.GenerateResponse | None = None
        # What belongs behind it: joined when it is taken, not with each token.
        self._more_ids: list[bytes] = []
        self._more_text: list[str] = []
        self._told: list[Logprobs] = []  # of all its tokens
        self._error: RouterError | None = None
        self._is_over = False
        self._bell = bell or Bell()

    @property
    def is_over(self) -> bool:
        """Nothing comes any more but what waits to be taken."""
        return self._is_over

    def put(self, emit: Emit) -> None:
        pending = self._pending
        if pending is None:
            pending = pb.GenerateResponse(
                request_id=self.request_id,
                token_ids=emit.token_ids,
                text=emit.text,
                position=emit.position,
                index=self._index,
            )
            if self.sampling is not None:
                pending.sampling.CopyFrom(sampling_to_proto(self.sampling))
                self.sampling = None
            self._pending = pending
        else:
            self._more_ids.append(emit.token_ids)
            self._more_text.append(emit.text)
        if emit.logprobs is not None:
            self._told.append(emit.logprobs)
        if emit.usage is not None:
            pending.usage.CopyFrom(usage_to_proto(usage_of(emit.usage, self._index)))
        if emit.finish is not None:
            pending.finish_reason = finish_to_proto(emit.finish)
            self._is_over = True
        self._bell.ring()

    def more(self, data: bytes) -> None:
        raise BrokenInvariant("no verbatim request comes by this door")

    def fail(self, failure: Failure, detail: str = "") -> None:
        self.end(failure_error(failure, detail))

    def end(self, error: RouterError) -> None:
        """By this error, once what came before is taken."""
        self._error = error
        self._is_over = True
        self._bell.ring()

    async def take(self) -> pb.GenerateResponse | None:
        """The next message; None after the last. Raises how the request failed."""
        while (message := self.poll()) is None and not self._is_over:
            await self._bell.wait()
        return message

    def poll(self) -> pb.GenerateResponse | None:
        """The same, without waiting: None, too, while there is none."""
        message, self._pending = self._pending, None
        if message is None:
            if self._error is not None:
                raise self._error
            return None
        if self._more_ids:
            message.token_ids += b"".join(self._more_ids)
            message.text += "".join(self._more_text)
            self._more_ids, self._more_text = [], []
        if self._told:
            message.logprobs.CopyFrom(logprobs_to_proto(join_logprobs(self._told)))
            self._told = []
        return message


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
