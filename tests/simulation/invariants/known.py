"""Faults that are known: claims that are looked at, counted, and not held against a seed.

Each has its number and goes away with its fault: an empty table is the aim.
"""

KNOWN_FAULTS: dict[str, str] = {}


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, claim: str, text: str) -> None:
        super().__init__(f"{claim}: {text}")
        self.claim = claim
