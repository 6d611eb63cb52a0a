"""Simulated requests: as routers see them, those of a trace, and their outputs as workers tell.

Owns which attempt of each request runs, and which router each one comes to. Reads the fleet's rows;
changes nothing of it.
"""

from abc import ABC, abstractmethod
from typing import NamedTuple

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.simulated_fleet import SimulatedFleet
from radixroute.replay.scenario import BY_HASH, Routers
from radixroute.replay.traces.trace import Prefixes, Trace, sessions
from radixroute.request.sampling import FinishReason, SamplingParams
from radixroute.router.messages.actions import Dispatch
from radixroute.router.messages.inputs import (
    TOKEN_BYTES,
    Delta,
    PackedTokens,
    PromptFacts,
    RequestSpec,
    packed_len,
)

_NEVER = 1 << 62


class _Attempt(NamedTuple):
    """One dispatch of a request."""

    number: int  # from 1
    emitted: int  # output tokens before it


_FIRST = _Attempt(1, 0)


class RequestsOfRun(ABC):
    """What routers and workers say of requests; rows of the fleet's table are their numbers."""

    router_of: list[int]  # which router each request comes to

    def __init__(self) -> None:
        self._attempts: dict[int, _Attempt] = {}  # of requests that were cut off

    @abstractmethod
    def spec(self, request: int) -> RequestSpec:
        """As its client asks."""

    def id_of(self, request: int) -> str:
        """Its own alone for the whole run."""
        return str(request)

    def number_of(self, request_id: str) -> int:
        """The inverse, while it has not ended."""
        return int(request_id)

    def sent(self, request: int, dispatch: Dispatch) -> None:
        """From now on its outputs are those of this attempt."""
        if dispatch.attempt > 1:
            attempt = _Attempt(dispatch.attempt, packed_len(dispatch.emitted))
            self._attempts[request] = attempt

    def delta(self, request: int, kind: int, fleet: SimulatedFleet) -> Delta:
        """What a report tells of it: its first token, its last with all between them, or both."""
        row = fleet.requests[request]
        attempt, emitted = self._attempts.get(request, _FIRST)
        n_output = emitted + int(row[at.OUTPUT])
        facts = None
        if kind & at.FIRST_TOKEN:
            # What was put out before is prompt to the scheduler, and output in its report.
            n_prompt, n_cached = int(row[at.PROMPT]) - emitted, int(row[at.CACHED])
            again = int(row[at.RECOMPUTED]) + emitted - max(0, n_cached - n_prompt)
            facts = PromptFacts(n_prompt, min(n_cached, n_prompt), again)
        position = emitted if kind & at.FIRST_TOKEN else emitted + 1
        end = n_output if kind & at.LAST_TOKEN else emitted + 1
        return Delta(
            request_id=self.id_of(request),
            attempt=attempt,
            position=position,
            token_ids=PackedTokens(bytes(TOKEN_BYTES * (end - position))),
            text="",
            finish=FinishReason.LENGTH if kind & at.LAST_TOKEN else None,
            prompt=facts,
        )

    def delta_before_death(self, request: int, emitted: int) -> Delta | None:
        """What it had put out, `emitted` tokens in all, that no report has told; None: nothing."""
        attempt, before = self._attempts.get(request, _FIRST)
        n_more = emitted - before - 1  # the first token was told
        if n_more <= 0:
            return None
        tokens = PackedTokens(bytes(TOKEN_BYTES * n_more))
        return Delta(self.id_of(request), attempt, before + 1, tokens, "")

    def forget(self, request: int) -> None:
        """Its number will be another's."""
        self._attempts.pop(request, None)


class SimulatedRequests(RequestsOfRun):
    """All of a trace."""

    def __init__(
        self, trace: Trace, policy: str, numbered: Prefixes, arrival_ns: Numbers, routers: Routers
    ) -> None:
        """`arrival_ns`: as replayed; those of follow-ups change."""
        from radixroute.replay.fleet.kernels import keys_of  # here: numba takes 0.5 s to import

        super().__init__()
        self._trace, self._policy, self._prefixes = trace, policy, numbered
        self._arrival_ns = arrival_ns
        self._keys_of = keys_of
        self._session = sessions(trace)
        # Only a prompt's length counts; all prompts are views of one.
        self._prompt = np.zeros(int(trace.input_tokens.max(initial=0)), np.uint32)
        self.router_of = self._shared(routers)

    def spec(self, request: int) -> RequestSpec:
        first, end = self._prefixes.first[request : request + 2].tolist()
        n_prompt, session = int(self._trace.input_tokens[request]), int(self._session[request])
        arrival_ns = int(self._arrival_ns[request])
        keys = np.empty(end - first, np.uint64)
        self._keys_of(self._prefixes.nodes[first:end], keys)
        return RequestSpec(
            request_id=str(request),
            prompt=self._prompt[:n_prompt],
            keys=keys,
            sampling=SamplingParams(max_tokens=int(self._trace.output_tokens[request])),
            policy=self._policy,
            arrival_ns=arrival_ns,
            deadline_ns=_NEVER,
            session=None if session < 0 else session,
        )

    def _shared(self, routers: Routers) -> list[int]:
        """Which router each request comes to."""
        numbers = np.arange(len(self._trace), dtype=np.uint64)
        if routers.by == BY_HASH:
            is_alone = self._session < 0
            numbers = np.where(is_alone, numbers, self._session.astype(np.uint64))
            numbers = (numbers + np.uint64(1)) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)
        of: list[int] = (numbers % np.uint64(routers.n)).tolist()
        return of
