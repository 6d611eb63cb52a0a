"""Admission: who is let in, before anything is tokenised.

Owns the budget of the house: requests, their bytes as they came and their tokens, guessed from the
bytes until they are known. Whoever is let in leaves once, however it ends. Leases are let in like
requests. Pure; a door asks by `RouterCore.enter`.
"""

from dataclasses import dataclass
from typing import Final, NamedTuple

from radixroute.radix.errors import BrokenInvariant
from radixroute.router.counters import Count

# Bytes of text that make a token, at the least: an overestimate of tokens refuses too much, and
# few tokenizers average below two bytes.
BYTES_PER_TOKEN: Final = 2


@dataclass(frozen=True, slots=True)
class House:
    """What is in, or how much may be."""

    requests: int = 0
    n_bytes: int = 0
    tokens: int = 0


class _Guest(NamedTuple):
    n_bytes: int
    tokens: int


class Admission:
    """Everything that is in: being tokenised, waiting, running, or leased."""

    def __init__(self, most: House) -> None:
        self._most = most
        self._guests: dict[str, _Guest] = {}
        self._n_bytes = self._tokens = 0

    def __len__(self) -> int:
        return len(self._guests)

    def __contains__(self, request_id: str) -> bool:
        return request_id in self._guests

    @property
    def most(self) -> House:
        """What may be in."""
        return self._most

    @property
    def house(self) -> House:
        """What is in now."""
        return House(len(self._guests), self._n_bytes, self._tokens)

    def enter(self, request_id: str, *, n_bytes: int, tokens: int | None = None) -> bool:
        """False: the house is full. `tokens`: known ones; None: text of `n_bytes`.

        A request larger than the whole budget comes in alone: its own limits are the model's.
        """
        if request_id in self._guests:
            raise BrokenInvariant("a request came in twice")
        if self.limit_reached(n_bytes=n_bytes, tokens=tokens) is not None:
            return False
        self._add(request_id, _guest(n_bytes, tokens))
        return True

    def limit_reached(self, *, n_bytes: int, tokens: int | None = None) -> Count | None:
        """What a request of this size is refused for now; None: it may come in."""
        guest, most = _guest(n_bytes, tokens), self._most
        if not self._guests:
            return None
        if len(self._guests) >= most.requests:
            return Count.HOUSE_FULL
        if self._n_bytes + guest.n_bytes > most.n_bytes:
            return Count.HOUSE_FULL_OF_BYTES
        return Count.HOUSE_FULL_OF_TOKENS if self._tokens + guest.tokens > most.tokens else None

    def counted(self, request_id: str, tokens: int) -> None:
        """Its tokens are known now."""
        guest = self._guests.get(request_id)
        if guest is not None:
            self._tokens += tokens - guest.tokens
            self._guests[request_id] = _Guest(guest.n_bytes, tokens)

    def leave(self, request_id: str) -> None:
        """It has ended, or never became a request. Who is out already may leave again."""
        guest = self._guests.pop(request_id, None)
        if guest is not None:
            self._n_bytes -= guest.n_bytes
            self._tokens -= guest.tokens

    def check(self) -> None:
        """Raises BrokenInvariant."""
        guests = self._guests.values()
        sums = sum(g.n_bytes for g in guests), sum(g.tokens for g in guests)
        if sums != (self._n_bytes, self._tokens):
            raise BrokenInvariant("what is in the house does not add up")

    def _add(self, request_id: str, guest: _Guest) -> None:
        self._guests[request_id] = guest
        self._n_bytes += guest.n_bytes
        self._tokens += guest.tokens


def _guest(n_bytes: int, tokens: int | None) -> _Guest:
    """Text of that many bytes where its tokens are not known."""
    return _Guest(n_bytes, -(-n_bytes // BYTES_PER_TOKEN) if tokens is None else tokens)
