"""Fences: of two attempts at one request in sessions of routers, the higher alone goes on.

Owns which attempt is the latest of each request that runs. A client that lost its router resumes at
another one, and the first may still live: its attempt here ends before the new one starts. Pure.
"""

from typing import Generic, NamedTuple, TypeVar

Owner = TypeVar("Owner")


class _Latest(NamedTuple, Generic[Owner]):
    attempt: int
    owner: Owner


class Fences(Generic[Owner]):
    """Attempts by the routers' ids of their requests."""

    def __init__(self) -> None:
        self._latest: dict[str, _Latest[Owner]] = {}

    def __len__(self) -> int:
        return len(self._latest)

    def is_behind(self, request_id: str, attempt: int) -> bool:
        """Whether a later attempt runs, in whichever session."""
        latest = self._latest.get(request_id)
        return latest is not None and latest.attempt > attempt

    def begin(self, request_id: str, attempt: int, owner: Owner) -> tuple[int, Owner] | None:
        """It is the latest now; the lower attempt that ran and has to end, if there was one."""
        older = self._latest.get(request_id)
        self._latest[request_id] = _Latest(attempt, owner)
        return older if older is not None and older.attempt < attempt else None

    def end(self, request_id: str, attempt: int, owner: Owner) -> None:
        """It is over. Others are no error: a later one may have begun."""
        if self._latest.get(request_id) == (attempt, owner):
            del self._latest[request_id]
