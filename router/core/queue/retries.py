"""Retries: how many requests may be tried again at once after an error of a live worker.

Owns who is being tried again. A share of what runs, with a floor, as Envoy's retry budget: a fault
that every attempt meets must not multiply the load. A resume after a death is no retry. Pure.
"""

from typing import Final

SHARE: Final = 0.2
FLOOR: Final = 3  # few requests may still all be tried again


class RetryBudget:
    """Requests that are on a further attempt because a live worker failed them."""

    def __init__(self) -> None:
        self._retried: set[str] = set()

    def __len__(self) -> int:
        return len(self._retried)

    def take(self, request_id: str, *, n_running: int) -> bool:
        """Whether this one may be tried once more; each request once."""
        if request_id in self._retried:
            return False
        if len(self._retried) >= max(FLOOR, SHARE * n_running):
            return False
        self._retried.add(request_id)
        return True

    def ended(self, request_id: str) -> None:
        self._retried.discard(request_id)
