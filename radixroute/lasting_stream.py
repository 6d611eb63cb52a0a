"""One answer, whatever connections carry it: what has come, and when to ask for the rest.

A router's death is a pause for its clients: they ask again, with what they have, until a router
answers or patience ends. Errors that are answers are never asked again. Owns what has come of one
answer; no I/O, the clock is passed in. Called by the clients in `client`.
"""

import random
from collections.abc import Callable
from typing import Any, Final

from radixroute.call_errors import has_no_connection, is_lost
from radixroute.errors import RequestFailed
from radixroute.protos import radixroute_pb2 as pb

FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
TOKEN_BYTES: Final = 4


class LastingStream:
    """One request and its answer so far."""

    def __init__(
        self,
        request: pb.GenerateRequest,
        *,
        timeout_s: float,
        patience_s: float,
        clock_s: Callable[[], float],
        is_known: bool = False,
    ) -> None:
        """`patience_s`: for so long after its last message a lost router is asked for again.
        `is_known`: a router has answered there before: if none does now, it was lost."""
        self._request = request
        self._clock_s = clock_s
        self._end_s = clock_s() + timeout_s
        self._patience_s = patience_s
        self.is_known = is_known
        self._request_id = ""  # empty: nothing has come yet
        self._sampling: pb.SamplingParams | None = None  # as it was told
        self._emitted = bytearray()  # packed
        self._text_len = 0
        self._n_resumes = 0
        self._usage: pb.Usage | None = None  # of the connections before, and of this one
        self._usage_before: pb.Usage | None = None
        self._lost_s: float | None = None  # since when there has been no router
        self._pause_s = FIRST_PAUSE_S

    @property
    def left_s(self) -> float:
        """Until its deadline."""
        return max(0.0, self._end_s - self._clock_s())

    @property
    def has_begun(self) -> bool:
        """Some of it has come."""
        return bool(self._request_id)

    @property
    def request(self) -> pb.GenerateRequest:
        """What to send now. Before the first message nothing was told, so it is asked anew."""
        if not self._n_resumes:
            return self._request
        request = pb.GenerateRequest()
        request.CopyFrom(self._request)
        request.sampling.CopyFrom(self._sampling or pb.SamplingParams())
        request.resume.request_id = self._request_id
        request.resume.emitted_token_ids = bytes(self._emitted)
        request.resume.emitted_text_len = self._text_len
        request.resume.number = self._n_resumes
        return request

    def take(self, response: pb.GenerateResponse) -> pb.GenerateResponse:
        """The next message, for whoever reads the answer. Raises `RequestFailed` for a router that
        does not go on where the last one was."""
        n_emitted = len(self._emitted) // TOKEN_BYTES
        if self._n_resumes and response.request_id != self._request_id:
            raise RequestFailed(
                f"request {self._request_id} was cut off, and this router cannot go on with it"
            )
        if response.position != n_emitted:
            raise RequestFailed(
                f"request {response.request_id}: the answer goes on at token {response.position}"
                f" where {n_emitted} have come"
            )
        if not self._request_id:
            self._request_id = response.request_id
            self._sampling = response.sampling if response.HasField("sampling") else None
        self._emitted += response.token_ids
        self._text_len += len(response.text)
        self._lost_s, self._pause_s = None, FIRST_PAUSE_S
        if response.HasField("usage"):
            if self._usage_before is not None:
                _add_before(response.usage, self._usage_before)
            self._usage = response.usage
        return response

    def pause_s(self, error: Any) -> float | None:
        """How long to wait before `request` is sent again; None: this error is the end."""
        now_s = self._clock_s()
        has_begun = self.has_begun
        if self._lost_s is None:
            is_known = has_begun or self.is_known
            is_end = not is_lost(error) or (not is_known and has_no_connection(error))
        else:  # a router without workers yet is one that has just come back
            is_end = error.code().name != "UNAVAILABLE" and not is_lost(error)
        if is_end or (has_begun and self._sampling is None):
            return None
        if self._lost_s is None:
            self._lost_s = now_s
        pause_s, self._pause_s = self._pause_s, min(LONGEST_PAUSE_S, 2 * self._pause_s)
        pause_s *= 1.0 - random.random() / 2  # noqa: S311 - many clients must not come at once
        if now_s + pause_s > min(self._end_s, self._lost_s + self._patience_s):
            return None
        # A resume that never arrived needs no new number.
        if not (self._n_resumes and has_no_connection(error)):
            self.go_on()
        return pause_s

    def go_on(self) -> None:
        """What carried it is lost: `request` is for the rest."""
        if self.has_begun:
            self._n_resumes += 1
            self._usage_before = self._usage


def _add_before(usage: pb.Usage, before: pb.Usage) -> None:
    """What the connections before had told, into what this one tells."""
    usage.cached_tokens = before.cached_tokens
    usage.ttft_ms, usage.queue_ms = before.ttft_ms, before.queue_ms
    usage.recomputed_tokens += before.recomputed_tokens
    usage.attempts += before.attempts
    own = list(usage.by_attempt)
    del usage.by_attempt[:]
    usage.by_attempt.extend([*before.by_attempt, *own])
