"""Engine host: where an engine lives, seen from the worker's server.

The seam between a worker's server and any engine: ours in a process of its own (`EngineProcess`),
or another's behind its own wire (a companion). Protocols only; all on one event loop.
"""

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeAlias

from radixroute.metrics.page import Part
from radixroute.radix.ids import Tokens
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.engine.engine import EngineInfo, EngineRequest, EngineStep, TokenOutput


class EngineListener(Protocol):
    """Who hears the engine. Called on the event loop; must not block."""

    def on_step(self, step: EngineStep) -> None: ...

    def on_refused(self, output: TokenOutput) -> None:
        """The end of a request that never began."""

    def on_rendered(self, session_id: str, request_id: str, tokens: Tokens | None) -> None:
        """The answer to `render`; None: the engine does not tell."""

    def on_dead(self, reason: str) -> None:
        """The engine's life is over: nothing comes any more."""


class EngineHost(Protocol):
    """One life of one engine: `start` once, then submit and abort, then `stop`."""

    @property
    def pid(self) -> int | None:
        """Of the process that computes, where it is this host's."""

    @property
    def tokenizer(self) -> Tokenizer | None:
        """Its own, once started; None: the one in the folder that the settings name."""

    @property
    def parts(self) -> Sequence[Part[Any]]:
        """Of its worker's metrics page: tables of its own. Once started."""

    async def start(self) -> EngineInfo:
        """Raises `FixConfig` or `StartFailed` with what to do; nothing is left running then."""

    def submit(self, request: EngineRequest) -> None:
        """Raises `EngineDead`. A refusal comes back through the listener."""

    def abort(self, request_id: str, attempt: int) -> None:
        """Nothing happens for what has ended already."""

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None:
        """So much more of a verbatim answer may be put out. Nothing happens for what has ended."""

    def render(self, session_id: str, request_id: str, asked: Verbatim, lora: str) -> None:
        """What tokens would it make of that prompt? Answered through the listener, once."""

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None:
        """Ends it once more, behind all its outputs, if it is not here any more."""

    def end_session(self, session_id: str) -> None:
        """Aborts all requests of a worker session whose stream is gone."""

    async def stop(self) -> None:
        """Idempotent."""


HostFactory: TypeAlias = Callable[[EngineListener], EngineHost]
