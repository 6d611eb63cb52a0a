"""Memo: pieces of prompts, as token ids, by name. No clock, no randomness: both are passed in.

Owns the pieces and what they cost. One thread owns it and alone changes it (`keep`, `forget_old`);
others may look pieces up meanwhile, for a `Recall` only reads and carries what it found and what is
new to `keep`. A name is a digest of the name before it and the piece's text: equal names mean equal
text from the prompt's first character on, in one scope.
"""

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import astuple, dataclass
from hashlib import blake2b
from operator import add, sub
from typing import Final

from radixroute.radix.errors import BrokenInvariant

NAME_BYTES: Final = 16
# What a piece takes beside its ids: its name, both objects' heads, its time, a place in the table.
PIECE_BYTES: Final = 320
ID_BYTES: Final = 4
A_TURN: Final = 512  # pieces forgotten at once: some 0.2 ms


@dataclass(slots=True)
class MemoCounts:
    """What happened so far."""

    pieces_reused: int = 0
    tokens_reused: int = 0
    pieces_added: int = 0
    pieces_evicted: int = 0  # for want of room
    pieces_lapsed: int = 0  # unused for long

    def __add__(self, other: "MemoCounts") -> "MemoCounts":
        return MemoCounts(*map(add, astuple(self), astuple(other)))

    def __sub__(self, other: "MemoCounts") -> "MemoCounts":
        return MemoCounts(*map(sub, astuple(self), astuple(other)))


class Recall:
    """One prompt's pieces, in order: those known, and those to be learned. Of one thread."""

    def __init__(self, find: Callable[[bytes], bytes | None], root: bytes) -> None:
        self._find = find
        self._name = root
        self.found: list[bytes] = []  # names
        self.tokens_found = 0
        self.learned: list[tuple[bytes, bytes]] = []  # names, packed ids

    def next(self, piece: str) -> tuple[bytes, bytes | None]:
        """The name of the piece after those asked for, and its ids, packed; None: not known."""
        # Half of a surrogate pair is no text, but must not end a request in an odd way here.
        text = piece.encode("utf-8", "surrogatepass")
        self._name = name = blake2b(self._name + text, digest_size=NAME_BYTES).digest()
        packed = self._find(name)
        if packed is not None:
            self.found.append(name)
            self.tokens_found += len(packed) // ID_BYTES
        return name, packed

    def learn(self, name: bytes, packed: bytes) -> None:
        """The ids of a piece that was not known."""
        self.learned.append((name, packed))


class Memo:
    """Pieces by name; those used longest ago are forgotten first."""

    def __init__(self, max_bytes: int, idle_s: float) -> None:
        """`idle_s`: a piece that nobody asks for so long is forgotten."""
        self._max_bytes = max_bytes
        self._idle_s = idle_s
        # By last use, oldest first: packed ids, and when that was.
        self._pieces: OrderedDict[bytes, tuple[bytes, float]] = OrderedDict()
        self.n_bytes = 0
        self.counts = MemoCounts()

    def __len__(self) -> int:
        return len(self._pieces)

    def recall(self, root: bytes) -> Recall:
        """For one prompt. `root`: what names of its scope begin with; nobody can guess it."""
        return Recall(self._find, root)

    def keep(self, recall: Recall, now_s: float) -> None:
        """What its prompt used is new again, what it learned is known. O(its pieces)."""
        pieces, counts = self._pieces, self.counts
        for name in recall.found:
            known = pieces.get(name)
            if known is not None:  # forgotten meanwhile
                pieces[name] = (known[0], now_s)
                pieces.move_to_end(name)
        counts.pieces_reused += len(recall.found)
        counts.tokens_reused += recall.tokens_found
        for name, packed in recall.learned:
            if name not in pieces:  # another prompt of the same chat
                pieces[name] = (packed, now_s)
                self.n_bytes += _cost(packed)
                counts.pieces_added += 1
        recall.found, recall.learned, recall.tokens_found = [], [], 0
        while self.n_bytes > self._max_bytes:
            self._forget_oldest()
            counts.pieces_evicted += 1

    def forget_old(self, now_s: float, at_most: int = A_TURN) -> None:
        """Those unused for too long, so many at once."""
        for _ in range(at_most):
            if not self._pieces:
                return
            _, used_s = next(iter(self._pieces.values()))
            if used_s + self._idle_s > now_s:
                return
            self._forget_oldest()
            self.counts.pieces_lapsed += 1

    def check(self) -> None:
        """Raises BrokenInvariant."""
        n_bytes = sum(_cost(packed) for packed, _ in self._pieces.values())
        if n_bytes != self.n_bytes or n_bytes > self._max_bytes:
            raise BrokenInvariant(
                f"a memo of {n_bytes} bytes has {self.n_bytes} in its book, {self._max_bytes} most"
            )
        times = [used_s for _, used_s in self._pieces.values()]
        if times != sorted(times):
            raise BrokenInvariant("a memo's pieces are not in the order of their use")
        counts = self.counts
        if counts.pieces_added - counts.pieces_evicted - counts.pieces_lapsed != len(self):
            raise BrokenInvariant("a memo lost a piece without counting it")

    def _find(self, name: bytes) -> bytes | None:
        """By any thread."""
        known = self._pieces.get(name)
        return None if known is None else known[0]

    def _forget_oldest(self) -> None:
        _, (packed, _) = self._pieces.popitem(last=False)
        self.n_bytes -= _cost(packed)


def _cost(packed: bytes) -> int:
    return len(packed) + PIECE_BYTES
