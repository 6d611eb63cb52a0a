"""Headers of requests on their way to an engine. Of its client's there is one among them: the trace
context of its call. Pure."""

from typing import Final

from radixroute.worker.companions.dialects.common.completions import JSON
from radixroute.worker.engine.engine import EngineRequest

Headers = tuple[tuple[str, str], ...]
RANK: Final = "X-data-parallel-rank"
TRACE: Final = "traceparent"


def headers_of(request: EngineRequest, call_id: str, rank: int | None = None) -> Headers:
    """`call_id`: never the client's own, as one that is used twice ends both requests there.
    `rank`: that is to run it; None: there is one."""
    named = (*traced(request), ("X-Request-Id", call_id))
    return named if rank is None else (*named, (RANK, str(rank)))


def traced(request: EngineRequest) -> Headers:
    """Of an engine that takes ids of its requests in their bodies."""
    return (*JSON, (TRACE, request.traceparent)) if request.traceparent else JSON
