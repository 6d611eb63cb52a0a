"""Faults that are known: claims that are looked at, counted, and not held against a seed.

Each has its number and goes away with its fault: an empty table is the aim.
"""

KNOWN_FAULTS: dict[str, str] = {
    "seats": "R1: more is dispatched to a worker than it can seat",
    "refusals": "R1: a worker that is full ends the request, instead of giving it back",
    "overtaking": "R4: requests of one policy overtake those of another without end",
    "leases admitted": "R5: leases are not admitted like requests",
    "overlaps beside lies": "E6: a block told once with a false root makes overlaps too long",
    "idle beside a stall": "seed 217: a plan waits for a worker whose step never ends, others idle",
    "patience": "R7: requests fail for want of workers while one lives",
}


class Broken(AssertionError):
    """An invariant does not hold."""

    def __init__(self, claim: str, text: str) -> None:
        super().__init__(f"{claim}: {text}")
        self.claim = claim
