"""Beginnings: which requests begin something, and how many follow each of them.

What continues goes where it was: its beginning chose for all of it. Nobody need say what belongs
together. A request begins where nothing of it is cached, or where its longest cached prefix is one
that another request had, too (a system prompt, an agent's trunk); a prefix that is the longest of
one request alone was left there by what came before it. Owns the prefixes seen and the share of
beginnings. No clock, no I/O; `RadixPolicy` calls.
"""

from collections import OrderedDict
from typing import Final

# Prefixes remembered; the one seen longest ago goes first, and is thought to be one request's own.
MAX_PREFIXES: Final = 16384
# Bounds what one wrong guess costs, and what the last hundred requests can tell.
MOST_FOLLOWERS: Final = 32.0
MEMORY: Final = 100  # requests
# Until requests tell: one of five begins something, as if so many had told. Where sessions come
# they all begin first, and choose for long before any of them is seen to go on.
FIRST_GUESS: Final = 0.2
GUESS_WEIGHT: Final = 40


class Beginnings:
    """Of all requests that were planned."""

    def __init__(self) -> None:
        self._seen: OrderedDict[int, str] = OrderedDict()  # prefix -> who had it last
        self._share = FIRST_GUESS
        self._n = GUESS_WEIGHT  # requests that told it, up to MEMORY

    def __len__(self) -> int:
        return len(self._seen)

    @property
    def followers(self) -> float:
        """Requests that follow one beginning."""
        return (1.0 - self._share) / max(self._share, 1.0 / MOST_FOLLOWERS)

    def followers_of(self, prefix: int | None, request_id: str) -> float:
        """Requests that it brings to its worker: what continues brings none that are not there."""
        return self.followers if self.is_one(prefix, request_id) else 0.0

    def is_one(self, prefix: int | None, request_id: str) -> bool:
        """`prefix`: the longest that any worker holds, by its last block; None: nobody has any."""
        return prefix is None or self._seen.get(prefix, request_id) != request_id

    def bound(self, prefix: int | None, request_id: str) -> None:
        """One request more goes to a worker."""
        self._n = min(self._n + 1, MEMORY)
        self._share += (self.is_one(prefix, request_id) - self._share) / self._n
        if prefix is None:
            return
        self._seen[prefix] = request_id
        self._seen.move_to_end(prefix)
        if len(self._seen) > MAX_PREFIXES:
            self._seen.popitem(last=False)
