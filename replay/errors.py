"""Errors of this room, cut by what the caller can do about them.

ReplayError
├── InvalidShape     the numbers asked for cannot make a workload: ask for others
├── BadPoint         a place in a recording that is none: write it otherwise
├── PointBeyondEnd   a place that the recording does not reach: give an earlier one
└── TornTexts        the shipped texts are damaged or missing: reinstall the package
"""


class ReplayError(Exception):
    """Something a caller of this room can act on."""


class InvalidShape(ReplayError):
    """The numbers asked for cannot make a workload."""


class TornTexts(ReplayError):
    """The shipped texts are damaged or missing."""


class BadPoint(ReplayError):
    """What was written names no place in a recording."""


class PointBeyondEnd(ReplayError):
    """The recording ends before it."""
