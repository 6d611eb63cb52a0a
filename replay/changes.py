"""Changes of a simulated fleet in mid-run: workers slow down, recover, come, leave and die.

Values, checked where they are made, and the words a command line has for them. In what order a
worker may come and go is the business of `check_lives`. Knows no trace and no array.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

from radixroute.replay.errors import InvalidShape

SLOWNESS: Final = "slowness"  # its steps take so many times what the timing says, from now on
JOIN: Final = "join"  # it comes, or comes back, with an empty cache
DRAIN: Final = "drain"  # it gets nothing new, finishes what it has and leaves
DIE: Final = "die"  # it is gone, and what it had is sent elsewhere
KINDS: Final = (SLOWNESS, JOIN, DRAIN, DIE)

_WORDS = re.compile(r"(\d+):(?:x([0-9.eE+-]+)|(join|drain|die))@([0-9.eE+-]+)")


@dataclass(frozen=True, slots=True)
class FleetChange:
    """What becomes of one worker at one time."""

    at_s: float  # of virtual time, from the start of the trace as replayed
    worker: int
    kind: str  # of `KINDS`
    slowness: float = 1.0  # times what the timing says, with `SLOWNESS`; 1: as fast as it says

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise InvalidShape(f"no change is called {self.kind!r}; use one of {', '.join(KINDS)}")
        if not 0.0 <= self.at_s < float("inf"):
            raise InvalidShape(f"a change happens at 0 s or later, not at {self.at_s}")
        if not 0.0 < self.slowness < float("inf"):
            raise InvalidShape(f"a slowness is a number above 0, not {self.slowness}")

    @property
    def at_ns(self) -> int:
        return round(self.at_s * 1e9)


def read_changes(text: str) -> tuple[FleetChange, ...]:
    """Of `WORKER:WHAT@SECONDS`, with commas between them, in any order.

    WHAT: `x3` (three times as slow as the timing says from then on; `x1`: well again), `join`,
    `drain` or `die`. Raises `InvalidShape`.
    """
    changes = []
    for word in filter(None, (part.strip() for part in text.split(","))):
        found = _WORDS.fullmatch(word)
        if found is None:
            raise InvalidShape(
                f"{word!r} is no change of a fleet: write WORKER:WHAT@SECONDS, for example 0:x3@60,"
                " 0:x1@120, 1:die@90, 1:join@150 or 2:drain@200"
            )
        worker, times, kind, at_s = found.groups()
        try:
            slowness = 1.0 if times is None else float(times)
            changes.append(FleetChange(float(at_s), int(worker), kind or SLOWNESS, slowness))
        except ValueError:
            raise InvalidShape(f"{word!r}: write plain numbers") from None
    return tuple(changes)


def in_order(changes: Iterable[FleetChange]) -> list[FleetChange]:
    """By time; of one time in the order given."""
    return sorted(changes, key=lambda change: change.at_ns)


def absent_at_first(changes: Iterable[FleetChange]) -> frozenset[int]:
    """Workers whose first coming or going is that they join: until then they are not there."""
    first: dict[int, str] = {}
    for change in in_order(changes):
        if change.kind != SLOWNESS:
            first.setdefault(change.worker, change.kind)
    return frozenset(worker for worker, kind in first.items() if kind == JOIN)


def check_lives(changes: Iterable[FleetChange], workers: int) -> None:
    """Raises `InvalidShape` unless each change is of a worker of the fleet, who is there leaves and
    who is not comes, and somebody is there at any time."""
    changes = tuple(changes)
    if not changes:
        return
    there = set(range(workers)) - absent_at_first(changes)
    if not there:
        raise InvalidShape("no worker is there at the start: let one of them join later or never")
    for change in in_order(changes):
        worker, when = change.worker, f"at {change.at_s:g} s"
        if not 0 <= worker < workers:
            raise InvalidShape(f"there is no worker {worker} {when}: they are 0 to {workers - 1}")
        if change.kind == JOIN:
            if worker in there:
                raise InvalidShape(f"worker {worker} joins {when}, and is there already")
            there.add(worker)
        elif change.kind in (DRAIN, DIE):
            if worker not in there:
                raise InvalidShape(f"worker {worker} leaves {when}, and is not there")
            there.remove(worker)
            if not there:
                raise InvalidShape(f"nobody is left {when}: leave or add a worker")
