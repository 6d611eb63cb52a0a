"""Errors of certificates.

    TrustError
    ├── BadPem       files that cannot be read, or that do not belong together
    └── CertsError   certificates cannot be made there, or of this

Messages name settings, files and reasons: never what a key file holds.
"""


class TrustError(Exception):
    """Any of them."""


class BadPem(TrustError):
    """`name` is the setting that named the file."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")
        self.name = name
        self.problem = problem


class CertsError(TrustError):
    """The text says what to do."""
