"""Deeds: what the world does to the router, as data. A schedule is a list of them, and can be cut.

Frozen records with a time each; `World` does them. Nothing here knows the router.
"""

from dataclasses import dataclass
from typing import TypeAlias

# (number of the text, tokens): prompts with the same leading pieces share a prefix.
Pieces: TypeAlias = tuple[tuple[int, int], ...]

# What a worker may say that is not so; `fleet/liar.py` says it.
LIES = (
    "repeats",  # a step's outputs come twice
    "skips",  # an output never comes
    "gives_up",  # it ends an attempt by itself
    "errors",  # it ends a request with an error
    "refuses",  # it says of a request that it cannot serve such a one
    "full",  # it says that it has no room for a request
    "old_attempt",  # outputs of an attempt that was given up
    "others",  # outputs of a request that runs elsewhere
    "claims",  # blocks it has not
    "false_roots",  # a block in the middle of prompts, told as a first block
    "one_root",  # the same, once, of a block that nobody has
    "phantoms",  # removals of blocks it never had
    "load",  # numbers of its load
    "speed",  # times of its steps
)


@dataclass(frozen=True, slots=True)
class Submit:
    """A client asks."""

    at_ms: int
    request_id: str
    pieces: Pieces
    max_tokens: int
    policy: str
    timeout_ms: int
    session: int | None = None
    tenant: str = ""
    salt: str = ""  # with which its blocks are kept apart
    lora: str = ""
    priority: int = 5
    tokenises_ms: int | None = None  # so long at the door, as text; None: it came as tokens
    hangs_up_after_ms: int | None = None
    hangs_up_after_tokens: int | None = None
    kills: bool = False  # its prefill ends the worker's process
    is_verbatim: bool = False  # for engines that take it as it is
    is_read: bool = True  # whether its router knows the tokens of such a one


@dataclass(frozen=True, slots=True)
class TakeLease:
    """A client is routed and goes to the worker itself, or never does."""

    at_ms: int
    request_id: str
    pieces: Pieces
    max_tokens: int
    policy: str
    tenant: str
    priority: int
    uses_after_ms: int | None  # None: never
    releases: bool  # once it is done with it
    hangs_up_after_ms: int | None  # as long as it waits
    salt: str = ""
    lora: str = ""


@dataclass(frozen=True, slots=True)
class Kill:
    """A worker's process ends. `how` it comes back: replaced, by_hand, unlisted, restarting (as
    unlisted, and the controller says that it starts it)."""

    at_ms: int
    worker: str
    how: str
    noticed_after_ms: int
    back_after_ms: int


@dataclass(frozen=True, slots=True)
class Stall:
    """Its engine finishes no step for so long; the process beats on."""

    at_ms: int
    worker: str
    ms: int


@dataclass(frozen=True, slots=True)
class Freeze:
    """The whole process stands still, then goes on where it was."""

    at_ms: int
    worker: str
    ms: int


@dataclass(frozen=True, slots=True)
class BreakSession:
    """The stream between router and worker breaks; both live."""

    at_ms: int
    worker: str


@dataclass(frozen=True, slots=True)
class CutEvents:
    """Nothing passes on the event stream."""

    at_ms: int
    worker: str
    ms: int


@dataclass(frozen=True, slots=True)
class Weather:
    """Chances for each message of the event stream, in percent."""

    at_ms: int
    worker: str
    ms: int
    lose: int = 0
    repeat: int = 0
    delay: int = 0
    mangle: int = 0
    garbage: int = 0
    drop: int = 0  # by the publisher itself


@dataclass(frozen=True, slots=True)
class ClearCache:
    """The worker forgets every block."""

    at_ms: int
    worker: str


@dataclass(frozen=True, slots=True)
class Hoard:
    """A worker holds so many copies of a text's first block, and in the end a few."""

    at_ms: int
    worker: str
    ms: int
    pieces: Pieces
    copies: int
    kept: int


@dataclass(frozen=True, slots=True)
class Lie:
    """For so long a worker says what is not so; see `fleet/liar.py` for the kinds."""

    at_ms: int
    worker: str
    ms: int
    kind: str


@dataclass(frozen=True, slots=True)
class Unlist:
    """The controller takes it off the list, and puts it back."""

    at_ms: int
    worker: str
    ms: int


@dataclass(frozen=True, slots=True)
class ReportDead:
    """The controller says that it is dead, which may be wrong."""

    at_ms: int
    worker: str


@dataclass(frozen=True, slots=True)
class Misfit:
    """So long it does not match the fleet: handshakes with it are refused."""

    at_ms: int
    worker: str
    ms: int


@dataclass(frozen=True, slots=True)
class StopRouter:
    """The router's process stands still; what comes in waits."""

    at_ms: int
    ms: int


@dataclass(frozen=True, slots=True)
class JumpClock:
    """The router's clock is further all at once."""

    at_ms: int
    ms: int


Deed: TypeAlias = (
    Submit
    | TakeLease
    | Kill
    | Stall
    | Freeze
    | BreakSession
    | CutEvents
    | Weather
    | ClearCache
    | Hoard
    | Lie
    | Unlist
    | ReportDead
    | Misfit
    | StopRouter
    | JumpClock
)


def over_ms(deed: Deed) -> int:
    """When the last of it happens, as far as that is known before."""
    lasts_ms: int = 0
    match deed:
        case Kill():
            lasts_ms = deed.back_after_ms
        case Submit():
            lasts_ms = deed.tokenises_ms or 0
        case TakeLease() | BreakSession() | ClearCache() | ReportDead() | JumpClock():
            pass
        case _:
            lasts_ms = deed.ms
    return deed.at_ms + lasts_ms
