"""Which batches of one stream did not arrive, as far as its messages show. For people who look.

Bounded: of a hole beyond `MAX_MISSING` only the end is remembered.
"""

MAX_MISSING = 1 << 16


class SeqTrack:
    """One stream in one epoch."""

    def __init__(self) -> None:
        self._known: int | None = None  # the newest seq that is known to exist
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

    def _mend(self, arrived: set[int]) -> int:
        mended = self._missing & arrived
        self._missing -= mended
        self._n_mended += len(mended)
        if not mended or self._missing:
            return 0
        n, self._n_mended = self._n_mended, 0
        return n
