"""Check: one thing that may be wrong, with its code, why it matters and what mends it.

A check looks at evidence and says where it sees that; it never raises and asks nobody.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from radixroute.doctor.evidence import Evidence


class Level(Enum):
    """What a finding costs."""

    ERROR = "error"  # something does not work, is unsafe, or is worked without
    WARNING = "warning"  # it works, and less well or less safely than it could


@dataclass(frozen=True, slots=True)
class Seen:
    """One place where it is so."""

    where: str  # router, worker-0, http://10.0.0.1:8000, this machine
    what: str  # was seen, with its numbers
    fix: str = ""  # in place of the check's, where more is known


Look: TypeAlias = Callable[[Evidence], Iterable[Seen]]


@dataclass(frozen=True, slots=True)
class Check:
    """One row of the table. `fix` names the flag or setting."""

    code: str
    level: Level
    about: str  # what is wrong, in general
    why: str  # it matters
    fix: str
    look: Look


@dataclass(frozen=True, slots=True)
class Finding:
    """What is shown of one place."""

    code: str
    level: Level
    where: str
    seen: str
    why: str
    fix: str
