"""Reception: what happens to a request at any door before it is the core's, and after.

Owns who is in the house: ids, which stream has which answer, whether anybody is still let in. A
door turns its client's bytes into `Asked` and into a stream, an `AnswerSink` with an id; everything
between the two is here, so that all doors admit, bind and end requests alike. In the router's loop.
"""

import random

from radixroute.request.errors import InvalidRequest
from radixroute.request.limits import is_too_long
from radixroute.router.api.asked import Asked, AskedVerbatim
from radixroute.router.api.fan import fan_out
from radixroute.router.api.guard.keys import Keys
from radixroute.router.api.open_streams import OpenStreams, Stream
from radixroute.router.api.prompts import PromptReader
from radixroute.router.api.rejections import Rejections
from radixroute.router.api.request_ids import RequestIds
from radixroute.router.api.status import failure_error
from radixroute.router.counters import Count
from radixroute.router.errors import (
    Draining,
    RequestRejected,
    Superseded,
    TryLater,
    Unauthenticated,
)
from radixroute.router.messages.actions import Failure
from radixroute.router.messages.inputs import TOKEN_BYTES, VERBATIM_NEED, RequestSpec
from radixroute.router.runtime import RouterRuntime


class Reception:
    """Of one router, for all its doors."""

    def __init__(
        self,
        runtime: RouterRuntime,
        prompts: PromptReader,
        secret: str,
        rng: random.Random,
        keys: Keys | None = None,
    ) -> None:
        """`secret`: the cluster's. `rng` draws ids and seeds; unguessable in a live router. `keys`:
        of who may ask; None: whoever can reach it."""
        self.runtime = runtime
        self.keys = keys
        self._prompts = prompts
        self._rng = rng
        self._ids = RequestIds(secret, rng)
        self._open = OpenStreams()
        self.rejections = Rejections()
        self._is_draining = False

    @property
    def n_open(self) -> int:
        """Answers that clients still read or wait for."""
        return len(self._open) + self.runtime.n_leases_asked

    @property
    def is_draining(self) -> bool:
        return self._is_draining

    def drain(self) -> None:
        """From now on nothing new comes in; what is in goes on."""
        self._is_draining = True

    def tenant_of(self, authorization: str, claimed: str = "") -> str:
        """Whose requests they are that come with this header: its key's, where keys are asked for,
        else whose the client says. Raises Unauthenticated and InvalidRequest."""
        if self.keys is None:
            return claimed
        name = self.keys.name_of(authorization)
        if name is None:
            self.runtime.core.count(Count.KEYS_REFUSED)
            raise Unauthenticated("a key is needed: `authorization: Bearer KEY`")
        if claimed not in ("", name):
            raise InvalidRequest("tenant", "is not whose key this is: leave it out")
        return name

    def draw_id(self, tenant: str) -> str:
        return self._ids.draw(tenant)

    def id_of(self, resumed_id: str, tenant: str) -> str:
        """A resume's, if it is one of this tenant's; else a fresh one."""
        if self._ids.is_of(resumed_id, tenant):
            return resumed_id
        return self._ids.draw(tenant)

    async def admit(
        self, asked: Asked, request_id: str, *, remaining_s: float | None
    ) -> RequestSpec:
        """Reads what was asked. `remaining_s`: to its client's deadline; None: it has none.

        Raises RouterError and InvalidRequest; then, too, `leave` or `release` has to follow.
        """
        resumed = asked.resumed
        n_bytes = asked.n_bytes + (0 if resumed is None else len(resumed.emitted))
        tokens = None if asked.is_text else n_bytes // TOKEN_BYTES
        self._enter(request_id, n_bytes, tokens)
        return await self._prompts.read(
            asked, request_id, seed=self._rng.getrandbits(64), remaining_s=remaining_s
        )

    @property
    def may_take_verbatim(self) -> bool:
        """False: no worker does, for certain."""
        runtime = self.runtime
        return runtime.handshake.served is None or runtime.core.adapters.may_serve(VERBATIM_NEED)

    async def takes_verbatim(self) -> bool:
        """Whether any worker takes requests as clients wrote them; waits for the first worker.
        Raises NoWorkers."""
        await self._prompts.served()
        return self.runtime.core.adapters.may_serve(VERBATIM_NEED)

    async def admit_verbatim(self, asked: AskedVerbatim, request_id: str) -> RequestSpec:
        """Like `admit`. Raises its refusal, too, where no worker takes such requests."""
        self._enter(request_id, len(asked.verbatim.body), asked.verbatim.n_tokens)
        return await self._prompts.read_verbatim(asked, request_id)

    def allow(self, stream: Stream, n_bytes: int) -> None:
        """Its client has taken so much of a verbatim answer."""
        self.runtime.allow(stream.request_id, n_bytes)

    def fan_out(self, spec: RequestSpec, n: int) -> tuple[RequestSpec, ...]:
        """The request of each of n answers: the first is `spec`, whose id the door has. Each is
        claimed, submitted and released like any."""
        return fan_out(spec, n, lambda: self.draw_id(spec.tenant))

    def claim(self, stream: Stream) -> None:
        """Before a second attempt starts, the first one is over: here, and at its worker."""
        try:
            if self._open.claim(stream):
                self.runtime.core.count(Count.STREAMS_SUPERSEDED)
                self.runtime.abort(stream.request_id)
        except Superseded:
            self.runtime.core.count(Count.STREAMS_SUPERSEDED)
            raise

    def submit(self, spec: RequestSpec, stream: Stream) -> None:
        """Its answer goes there. Raises Superseded: meanwhile another has claimed it."""
        self._open.require(stream)
        self.runtime.submit(spec, stream)

    def release(self, stream: Stream) -> None:
        """Its client has had its answer, or is gone: what still runs for it ends."""
        if self._open.release(stream):
            self.runtime.abort(stream.request_id)

    def _enter(self, request_id: str, n_bytes: int, tokens: int | None) -> None:
        """Before anything that costs: a full house answers at once."""
        if self._is_draining:
            self.runtime.core.count(Count.REFUSED_DRAINING)
            raise Draining("this router is ending: ask another one, or again in a moment")
        if not self.runtime.core.enter(request_id, n_bytes=n_bytes, tokens=tokens):
            raise failure_error(Failure.QUEUE_FULL)

    def refused(self, error: Exception) -> None:
        """A door tells its client so: whose fault that is gets counted."""
        if isinstance(error, (InvalidRequest, RequestRejected)):
            self.runtime.core.count(Count.REQUESTS_REJECTED)
            if isinstance(error, InvalidRequest) and is_too_long(error):
                self.runtime.core.count(Count.REQUESTS_TOO_LONG)
            else:
                self.rejections.add(error)

    def retry_after_ms(self, error: Exception) -> float | None:
        """When to come back, for whoever may."""
        return self.runtime.core.retry_after_ms if isinstance(error, TryLater) else None
