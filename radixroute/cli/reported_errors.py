"""Errors of the rooms below, as the command line reports them: with its exit codes.

Owns which error of `replay` and `deploy` is whose to mend. Messages pass unchanged.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from radixroute.deploy.errors import ConfigError, DeployError
from radixroute.errors import BadConfig, BadInput, FrontDoorError


@contextmanager
def reported_deploy_errors() -> Iterator[None]:
    """What `deploy` says, with our exit codes."""
    try:
        yield
    except ConfigError as error:
        raise BadConfig(str(error)) from error
    except DeployError as error:
        raise FrontDoorError(str(error)) from error


@contextmanager
def reported_replay_errors() -> Iterator[None]:
    """What `replay` says, with our exit codes."""
    from radixroute.replay.errors import ReplayError

    try:
        yield
    except ReplayError as error:
        raise BadInput(str(error)) from error
