"""Errors of the worker, cut by what their reader can do about them.

    WorkerError
    ├── FixConfig          an operator must change a setting, a file or the machine
    │   ├── BadSetting     a value of the settings that can never work
    │   ├── UnsafeBind     the address can be reached from other machines and nothing guards it
    │   ├── PortInUse      the port cannot be bound
    │   ├── ModelError     a model file is missing, torn, or of a kind this engine cannot run
    │   └── StartFailed    the engine process could not start; the text says what to do
    ├── EngineDead         the engine process has ended: restart the worker, resume elsewhere
    ├── EngineBroken       steps fail one after another: the engine gives up
    ├── MalformedMessage   a message between server and engine process that is not ours
    └── NotStarted         a worker was asked for something before `start`

A request that is at fault is `radixroute.request.errors.InvalidRequest`; a bug of ours is
`radixroute.radix.errors.BrokenInvariant`. Messages are fixed sentences with ids, numbers and names
of settings: never prompt text.
"""


class WorkerError(Exception):
    """Any error of the worker."""


class FixConfig(WorkerError):
    """An operator must change a setting, a file or the machine."""


class BadSetting(FixConfig):
    """A setting has a value that can never work."""

    def __init__(self, name: str, problem: str, *, section: str = "worker") -> None:
        super().__init__(f"{section}.{name}: {problem}")
        self.name = name


class UnsafeBind(FixConfig):
    """The address can be reached from other machines and nothing guards it."""


class PortInUse(FixConfig):
    """The port cannot be bound."""


class ModelError(FixConfig):
    """A model file is missing, torn, or of a kind this engine cannot run."""


class StartFailed(FixConfig):
    """The engine process could not start."""


class EngineDead(WorkerError):
    """The engine process has ended."""


class EngineBroken(WorkerError):
    """Several steps in a row failed: the engine cannot be trusted any more."""


class MalformedMessage(WorkerError):
    """Bytes between the server and the engine process that are not one of our messages."""


class NotStarted(WorkerError):
    """Asked too early: the caller must `start` first."""
