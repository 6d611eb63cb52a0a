"""Commands: what worker sessions ask of the engine. A seam: `WorkerService` passes them on."""

from typing import Protocol

from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.engine.engine import EngineRequest


class EngineCommands(Protocol):
    """What a worker session may ask of the engine. Raises `EngineDead` on submit only."""

    def submit(self, request: EngineRequest) -> None: ...

    def abort(self, request_id: str, attempt: int) -> None: ...

    def allow(self, request_id: str, attempt: int, n_bytes: int) -> None: ...

    def render(self, session_id: str, request_id: str, asked: Verbatim, lora: str) -> None: ...

    def inquire(self, session_id: str, request_id: str, attempt: int) -> None: ...

    def end_session(self, session_id: str) -> None: ...
