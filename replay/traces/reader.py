"""The seam of trace formats: what each one claims, and what reads its lines."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from radixroute.replay.traces.draft import TraceDraft


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
    claims: Callable[[bytes], bool]  # by the file's first line
    # (first line, block size or None) -> reader; raises `BadTrace` for a header it cannot use.
    start: Callable[[bytes, int | None], TraceReader]
    from_zero: bool = True  # times count from the first arrival
