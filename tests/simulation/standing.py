"""Standing: what the router should think of workers that fail or refuse what they are given.

Owned by the ledger; shares no code with the router.
"""

from collections import Counter
from collections.abc import Sequence

from tests.simulation.agenda import S

_ERRORS = 5  # in a row, and a worker is left alone
_ALONE_NS, _MOST_ALONE_NS = 10 * S, 300 * S


class Standing:
    """Of all workers of one router."""

    def __init__(self) -> None:
        self.full: set[str] = set()  # said so, and were not heard of since
        self.ejected: dict[str, int] = {}  # until when
        self._errors: Counter[str] = Counter()  # in a row
        self._times: Counter[str] = Counter()  # it was ejected

    def failed(self, worker: str, now_ns: int) -> bool:
        """Whether it is left alone from now on."""
        self._errors[worker] += 1
        if self._errors[worker] < _ERRORS or worker in self.ejected:
            return False
        self._times[worker] += 1
        alone_ns = min(self._times[worker] * _ALONE_NS, _MOST_ALONE_NS)
        self.ejected[worker] = now_ns + alone_ns
        self._errors[worker] = _ERRORS - 1
        return True

    def served(self, worker: str) -> None:
        if worker not in self.ejected:
            self._errors[worker] = self._times[worker] = 0

    def elapsed(self, now_ns: int) -> None:
        for worker in [w for w, until_ns in self.ejected.items() if until_ns <= now_ns]:
            del self.ejected[worker]

    def forget(self, worker: str) -> None:
        """Its process is another one, or it is not listed any more."""
        self.ejected.pop(worker, None)
        self._errors[worker] = self._times[worker] = 0

    def usable(self, live: Sequence[str]) -> list[str]:
        """Who of these may be given anything: with most of them ejected, nobody counts as that."""
        trusted = [worker for worker in live if worker not in self.ejected]
        if 2 * len(trusted) < len(live):
            trusted = list(live)
        return [worker for worker in trusted if worker not in self.full]
