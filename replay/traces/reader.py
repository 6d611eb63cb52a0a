"""The seam of trace formats: what each one claims, and what reads its lines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from radixroute.replay.traces.draft import TraceDraft
from radixroute.replay.traces.reading.wanted import Wanted
from radixroute.replay.traces.trace import Trace


class TraceReader(Protocol):
    """Reads one file. Holds what later lines refer to, e.g. sessions."""

    @property
    def draft(self) -> TraceDraft:
        """The requests read so far."""

    @property
    def name(self) -> str | None:
        """What the file calls its trace; None: nothing."""

    def take(self, line: bytes) -> None:
        """One line, not blank, into the draft. Raises `BadTrace` and then has added nothing."""


@dataclass(frozen=True, slots=True)
class TraceFormat:
    """One format: how it is known, and who reads it."""

    name: str
    has_header: bool  # the first line is no request
    claims: Callable[[bytes], bool]  # by the names of fields in the file's first line
    # (first line, what is said of the file) -> reader; raises `BadTrace` for a header it cannot use
    start: Callable[[bytes, Wanted], TraceReader]
    from_zero: bool = True  # times count from the first arrival
    # Of times that do not name it, e.g. "ms" (`reading.times.UNITS`). None: the rows themselves do.
    unit: str | None = None
    is_slow: bool = False  # to read: whoever wants few requests waits for no others
    # What its reader makes of the whole trace, e.g. out of rows that add to each other's prompts.
    finish: Callable[[Any, Trace], Trace] | None = None
