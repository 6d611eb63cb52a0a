"""Errors of the router, cut by what whoever sees them can do about it.

    RouterError
    ├── RequestRejected      change the request
    │   ├── UnknownModel
    │   ├── UnknownPolicy
    │   ├── PolicyNotOffered
    │   ├── Unauthenticated  it came without a key that is known
    │   └── UnknownRequest   Explain of an id that is not, or no longer, in the log
    ├── TryLater             the same request may work in a moment, or at another router
    │   ├── NoWorkers
    │   ├── QueueFull
    │   ├── PromptUnread
    │   └── Draining         this router ends once those it has are done
    ├── RequestFailed        the request was tried and will not be tried again
    │   ├── DeadlinePassed
    │   ├── ClientUnread     its client read nothing of the answer
    │   └── Superseded       its client went on with it in a later stream
    └── FixConfig            an operator must change a setting
        ├── BadSetting
        ├── UnsafeBind
        ├── PortInUse
        └── JoinRefused      a worker that does not belong to this router's fleet

A bug of ours is `radixroute.radix.errors.BrokenInvariant`: nobody can do anything about it.
Messages are fixed sentences with ids, numbers and names of settings: never prompt text.
"""


class RouterError(Exception):
    """Any error of the router."""


class RequestRejected(RouterError):
    """The client must change the request."""


class UnknownModel(RequestRejected):
    """The cluster does not serve this model."""


class BadTrial(RouterError):
    """A policy cannot be tried so, or not now."""


class UnknownPolicy(RequestRejected):
    """No policy has this name."""


class PolicyNotOffered(RequestRejected):
    """The policy exists and this router's clients may not name it."""


class Unauthenticated(RequestRejected):
    """Keys are asked for here, and it came with none that is known."""


class UnknownRequest(RequestRejected):
    """The decision log does not hold this request."""


class TryLater(RouterError):
    """Nothing is wrong with the request; nobody can take it now."""


class NoWorkers(TryLater):
    """No live worker came up in time."""


class QueueFull(TryLater):
    """The bound on waiting or running requests is reached."""


class PromptUnread(TryLater):
    """Whoever was to read the prompt was lost."""


class Draining(TryLater):
    """This router finishes what it has and takes nothing new."""


class RequestFailed(RouterError):
    """The request was tried and failed for good."""


class DeadlinePassed(RequestFailed):
    """Its own time limit, or the router's, is over."""


class ClientUnread(RequestFailed):
    """Its client read nothing of the answer for too long."""


class Superseded(RequestFailed):
    """A later resume of the same request has the answer now."""


class FixConfig(RouterError):
    """An operator must change a setting."""


class BadSetting(FixConfig):
    """A setting has a value that can never work."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"router.{name}: {problem}")
        self.name = name


class UnsafeBind(FixConfig):
    """The address can be reached from other machines and nothing guards it."""


class PortInUse(FixConfig):
    """The port cannot be bound."""


class JoinRefused(FixConfig):
    """A worker does not match the fleet; `reason` says in what."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
