"""Records that cross this package's border: status of a cluster, outcomes of starts.

Frozen, no Ray. Made by `actors`, read by `cluster`, the command line and the demo.
"""

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

# Readable lines about what a start or stop is doing; called from the thread that asked for it.
Progress: TypeAlias = Callable[[str], None]


class ActorState(Enum):
    """Where an actor slot stands."""

    STARTING = "starting"
    LIVE = "live"
    DRAINING = "draining"  # told to end: what it has goes on, nothing new comes
    WAITING = "waiting"  # between a death and the next start
    STOPPED = "stopped"


# What an actor gives as its reason when a signal asked its process to end: it drains by itself.
TOLD_TO_END = "told to end (SIGTERM)"


@dataclass(frozen=True, slots=True)
class StartOutcome:
    """An actor's answer to `start`: where it serves, or why it cannot."""

    host: str = ""
    port: int = 0
    pid: int | None = None
    error: str | None = None

    @property
    def address(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True, slots=True)
class ActorStatus:
    """One actor as its supervisor sees it."""

    name: str
    state: ActorState
    incarnation: int = 0  # of the current life; 0 before the first
    address: str = ""  # host:port while live
    pid: int | None = None
    deaths: int = 0
    reason: str = ""  # of the last death or failed start


@dataclass(frozen=True, slots=True)
class ClusterStatus:
    """A whole cluster at one moment."""

    router: ActorStatus
    workers: tuple[ActorStatus, ...]

    @property
    def actors(self) -> tuple[ActorStatus, ...]:
        return (*self.workers, self.router)

    @property
    def is_live(self) -> bool:
        return all(actor.state is ActorState.LIVE for actor in self.actors)


@dataclass(frozen=True, slots=True)
class MemberLook:
    """A worker as the router sees it."""

    worker_id: str
    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RouterLook:
    """A router as it sees itself."""

    members: tuple[MemberLook, ...] = ()
    api_url: str = ""  # of the OpenAI API; empty: it has no such door
    metrics_url: str = ""  # empty: no page
