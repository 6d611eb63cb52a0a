"""Errors of this room, cut by what the caller can do about them.

ReplayError
├── BadTrace         a trace file cannot be read: mend the line named, name its format, or skip
├── InvalidShape     the numbers asked for cannot make a workload: ask for others
├── BadCalibration   no timing can be made of it: name another file, or measure again
└── UnreadableRows   a file of requests is not what a report writes: name another, or run again
"""


class ReplayError(Exception):
    """Something a caller of this room can act on."""


class BadTrace(ReplayError):
    """A trace file, or one line of it, cannot be read. Says where and why, never what it holds."""

    def __init__(
        self, reason: str, line: int | None = None, file: str = "", called: str = "line"
    ) -> None:
        self.reason = reason
        self.line = line  # from 1
        self.file = file
        self.n_bad = 0  # such lines in the file, if it can be read without them
        where = [*([file] if file else []), *([f"{called} {line}"] if line else [])]
        super().__init__(": ".join([*([", ".join(where)] if where else []), reason]))


class InvalidShape(ReplayError):
    """The numbers asked for cannot make a workload."""


class BadCalibration(ReplayError):
    """No timing can be made of what was measured."""


class UnreadableRows(ReplayError):
    """A file of requests is not what a report writes."""
