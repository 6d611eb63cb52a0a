"""Errors of `deploy`, cut by what the caller can do.

DeployError
 +- ConfigError        fix the settings
 +- RayMissing         install the `ray` extra
 +- RayUnreachable     start Ray there, or give another address
 +- PlacementError     give Ray more CPUs or GPUs, or ask for fewer workers
 +- StartError         an actor did not come up: its own reason is in the message
 +- AlreadyRunning     take the running cluster down first, or choose another name
 +- NotRunning         there is nothing to take down
 +- ActorLost          one actor is gone; the supervisor replaces it

A bug of ours is `radixroute.radix.errors.BrokenInvariant`, no `DeployError`: it is raised inside
actors only, and Ray carries it to the caller as an actor's failure.
"""


class DeployError(Exception):
    """Anything `deploy` refuses or fails to do; the message says what to do about it."""


class ConfigError(DeployError):
    """Settings that can never work."""


class RayMissing(DeployError):
    """Ray is not installed here."""


class RayUnreachable(DeployError):
    """No Ray cluster answers at the given address, or none could be started."""


class PlacementError(DeployError):
    """Ray lacks the resources for the actors requested."""


class StartError(DeployError):
    """A worker or router did not come up in time, or said why it cannot."""


class AlreadyRunning(DeployError):
    """A cluster of this name is up."""


class NotRunning(DeployError):
    """No cluster of this name is up."""


class ActorLost(DeployError):
    """An actor died or does not answer."""
