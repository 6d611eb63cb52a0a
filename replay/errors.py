"""Errors of this room, cut by what the caller can do about them.

ReplayError
├── InvalidShape     the numbers asked for cannot make a workload: ask for others
└── TornTexts        the shipped texts are damaged or missing: reinstall the package
"""


class ReplayError(Exception):
    """Something a caller of this room can act on."""


class InvalidShape(ReplayError):
    """The numbers asked for cannot make a workload."""


class TornTexts(ReplayError):
    """The shipped texts are damaged or missing."""
