"""Headers of requests on their way to an engine. No header of a client's is among them. Pure."""

from typing import Final

from radixroute.worker.companions.dialects.common.completions import JSON

Headers = tuple[tuple[str, str], ...]
RANK: Final = "X-data-parallel-rank"


def headers_of(call_id: str, rank: int | None = None) -> Headers:
    """`call_id`: never the client's own, as one that is used twice ends both requests there.
    `rank`: that is to run it; None: there is one."""
    named = (*JSON, ("X-Request-Id", call_id))
    return named if rank is None else (*named, (RANK, str(rank)))
