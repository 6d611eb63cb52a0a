"""Which batches of one stream did not arrive, as far as its messages show. For people who look.

Bounded: of a hole beyond `MAX_MISSING` only the end is remembered.
"""

MAX_MISSING = 1 << 16


class SeqTrack:
    """One stream in one epoch."""

    def __init__(self, known: int | None = None) -> None:
        """`known`: the last batch before the first that is missed where it does not come."""
        self._known = known  # the newest seq that is known to exist
        self._missing: set[int] = set()
        self._n_mended = 0  # of the hole that is open

    def hear(self, seq: int) -> range | None:
        """Batch `seq` exists: the ones that should have come before this was said."""
        if self._known is None:
            self._known = seq
            return None
        missing = range(self._known + 1, seq + 1)
        if not missing:
            return None
        self._known = seq
        self._missing.update(missing[-MAX_MISSING:])
        if len(self._missing) > MAX_MISSING:
            self._missing = set(sorted(self._missing)[-MAX_MISSING:])
        return missing

    def see(self, seq: int) -> int:
        """Batch `seq` arrived. How many it mended, if it was the last one missing."""
        if self._known is None or seq > self._known:
            self._known = seq
        return self._mend({seq})

    def cover(self, seq: int | None) -> int:
        """A snapshot says all up to `seq`. How many were mended, if none is missing now."""
        return 0 if seq is None else self._mend({one for one in self._missing if one <= seq})

    @property
    def known(self) -> int | None:
        """The newest batch that is known to exist."""
        return self._known

    def give_up(self, seq: int | None) -> range | None:
        """Nobody keeps what is missing up to `seq`: from the first such batch to the last."""
        lost = {one for one in self._missing if seq is not None and one <= seq}
        self._missing -= lost
        self._n_mended = self._n_mended if self._missing else 0
        return range(min(lost), max(lost) + 1) if lost else None

    def _mend(self, arrived: set[int]) -> int:
        mended = self._missing & arrived
        self._missing -= mended
        self._n_mended += len(mended)
        if not mended or self._missing:
            return 0
        n, self._n_mended = self._n_mended, 0
        return n
