"""Client stream: one request's answer on its way from the core to its client.

Owns what the client has not taken yet, merged into one message: a slow client gets larger messages,
never a queue without bound (max_tokens bounds it). One producer and one consumer, in one loop.
"""

import asyncio

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.sampling import SamplingParams
from radixroute.request.wire import finish_to_proto, sampling_to_proto
from radixroute.router.api.status import failure_error
from radixroute.router.errors import RouterError
from radixroute.router.messages.actions import Emit, Failure, Usage


class ClientStream:
    """Messages of one request, in order, then its end."""

    def __init__(self, request_id: str, number: int = 0) -> None:
        """`number`: of the stream's resumes before it, this one counted in."""
        self.request_id = request_id
        self.number = number
        self.sampling: SamplingParams | None = None  # for the first message to tell
        self._pending: pb.GenerateResponse | None = None
        # What belongs behind it: joined when it is taken, not with each token.
        self._more_ids: list[bytes] = []
        self._more_text: list[str] = []
        self._error: RouterError | None = None
        self._is_over = False
        self._waiter: asyncio.Future[None] | None = None

    def put(self, emit: Emit) -> None:
        pending = self._pending
        if pending is None:
            pending = pb.GenerateResponse(
                request_id=self.request_id,
                token_ids=emit.token_ids,
                text=emit.text,
                position=emit.position,
            )
            if self.sampling is not None:
                pending.sampling.CopyFrom(sampling_to_proto(self.sampling))
                self.sampling = None
            self._pending = pending
        else:
            self._more_ids.append(emit.token_ids)
            self._more_text.append(emit.text)
        if emit.usage is not None:
            pending.usage.CopyFrom(usage_to_proto(emit.usage))
        if emit.finish is not None:
            pending.finish_reason = finish_to_proto(emit.finish)
            self._is_over = True
        self._wake()

    def fail(self, failure: Failure) -> None:
        self.end(failure_error(failure))

    def end(self, error: RouterError) -> None:
        """By this error, once what came before is taken."""
        self._error = error
        self._is_over = True
        self._wake()

    async def take(self) -> pb.GenerateResponse | None:
        """The next message; None after the last. Raises how the request failed."""
        while self._pending is None:
            if self._error is not None:
                raise self._error
            if self._is_over:
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        message, self._pending = self._pending, None
        if self._more_ids:
            message.token_ids += b"".join(self._more_ids)
            message.text += "".join(self._more_text)
            self._more_ids, self._more_text = [], []
        return message

    def _wake(self) -> None:
        waiter, self._waiter = self._waiter, None
        if waiter is not None and not waiter.done():
            waiter.set_result(None)


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
        by_attempt=[
            pb.AttemptUsage(worker_id=one.worker_id, cached_tokens=one.cached_tokens)
            for one in usage.by_attempt
        ],
    )
