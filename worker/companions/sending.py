"""Sending: requests on their way to an engine, under ids of ours, and their ends before they end.

Owns the count of calls and what was salted with; the connections are `EngineHttp`'s. On the event
loop.
"""

import secrets
from collections.abc import Callable

from radixroute.events.wire.compat import salt_of
from radixroute.worker.companions.cache.salts import Salts
from radixroute.worker.companions.dialects.dialect import Ask, Heard
from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.http.connection import Exchange
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.listening import Listening
from radixroute.worker.companions.verbatim.lane import Lane
from radixroute.worker.companions.verbatim.relaying import Relaying
from radixroute.worker.engine.engine import EngineRequest


class Sending:
    """To one engine that joined."""

    def __init__(self, joined: Joined, http: EngineHttp, salts: Salts) -> None:
        self._joined = joined
        self._http = http
        self._salts = salts
        self._n_calls = 0
        self._name = secrets.token_hex(8)  # begins the ids of its calls

    def send(
        self,
        request: EngineRequest,
        hear: Callable[[Heard], None],
        *,
        tells_again: bool,
        rank: int | None = None,
    ) -> "UnderWay":
        """`hear` is called until something with a finish. `tells_again`, `rank`: see
        `Dialect.call`."""
        joined, sampling = self._joined, request.sampling
        dialect = joined.dialect
        call_id, model = self._named(request)
        ask = dialect.call(request, call_id, model, tells_again=tells_again, rank=rank)
        own = () if sampling.ignore_eos else joined.info.eos_token_ids
        listening = Listening(
            dialect.reader(sampling.logprobs, {*own, *sampling.stop_token_ids}),
            dialect.refusal,
            hear,
            joined.texts,
        )
        return UnderWay(self._http, self._http.send(ask, listening), dialect.abort(call_id))

    def relay(
        self,
        request: EngineRequest,
        hear: Callable[[Heard], None],
        lane: Lane,
        *,
        rank: int | None = None,
    ) -> tuple["UnderWay", Relaying]:
        """A verbatim one; `hear` as for `send`, with passages, and `lane` has what is between the
        first and the last. The engine has no id of ours for it: its connection says that it is
        over."""
        dialect = self._joined.dialect
        call_id, model = self._named(request)
        relaying = Relaying(request, dialect, hear, lane)
        exchange = self._http.send(dialect.verbatim(request, call_id, model, rank), relaying)
        relaying.bring(exchange)
        return UnderWay(self._http, exchange, None), relaying

    def _named(self, request: EngineRequest) -> tuple[str, str]:
        """Its id there, and the engine's name for what is to run."""
        scope = request.scope
        if scope.salt or scope.tenant:
            self._salts.add(self._joined.dialect.salt(scope), salt_of(scope))
        # Of one length: some engines end all requests whose ids begin with what they are given.
        self._n_calls += 1
        return f"{self._name}{self._n_calls:016x}", scope.lora or self._joined.statement.model


class UnderWay:
    """One request. Implements `radixroute.worker.companions.calls.Cancellable`."""

    def __init__(self, http: EngineHttp, exchange: Exchange, abort: Ask | None) -> None:
        self._http = http
        self._exchange = exchange
        self._abort = abort

    def cancel(self) -> None:
        """Its connection closes, and the engine is told where that says too little."""
        self._exchange.cancel()
        if self._abort is not None:
            self._http.send(self._abort, _Unheard())


class _Unheard:
    """Of an answer that nobody waits for."""

    def head(self, status: int, content_type: str) -> None: ...

    def body(self, data: bytes) -> None: ...

    def ended(self) -> None: ...

    def failed(self, *, was_sent: bool) -> None: ...
