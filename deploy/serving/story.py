"""Story: what is said of engines and router while they come, go and come again. Pure.

Compares one look at a `serve` with the one before; each line is about one of them and says what to
do where somebody must do something.
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from radixroute.deploy.serving.engines import EngineAt
from radixroute.deploy.state.records import ActorState, ActorStatus
from radixroute.radix.ids import WorkerId
from radixroute.worker.companion_process.frames import EngineFacts

# What a refusal asks for, where the command has an option for it.
FLAGS: Mapping[str, str] = MappingProxyType(
    {
        "companion.allow_no_events": "--allow-no-events",
        "companion.allow_no_replay": "--allow-no-replay",
        "companion.allow_no_cached_tokens": "--allow-no-cached-tokens",
        "companion.api_key_file": "--engine-key-file",
        "companion.block_size": "--block-size",
        "companion.dialect": "--dialect",
        "companion.model": "--tokenizer",
    }
)
LIVE, REFUSED = "live", "refused"  # member states as the wire names them


@dataclass(frozen=True, slots=True)
class Member:
    """A worker as the router sees it."""

    state: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Look:
    """One moment of a `serve`."""

    router: ActorStatus
    workers: tuple[ActorStatus, ...]
    members: Mapping[WorkerId, Member] = field(default_factory=dict)
    facts: Mapping[WorkerId, EngineFacts] = field(default_factory=dict)
    unheard: Mapping[WorkerId, str] = field(default_factory=dict)  # why no engine answers there
    pages: tuple[str, ...] = ()  # what else the router has, and where


class Story:
    """Remembers what was said; `lines` of each look are only what is new."""

    def __init__(self, engines: tuple[EngineAt, ...]) -> None:
        self._urls = {engine.name: engine.url for engine in engines}
        self._said: dict[str, tuple[object, ...]] = {}
        self._deaths: dict[str, int] = {}
        self._joined: set[str] = set()  # whose current life did
        self._is_whole = False

    @property
    def is_whole(self) -> bool:
        """All of them served when last looked at."""
        return self._is_whole

    def lines(self, look: Look, age_s: float) -> Iterator[str]:
        """`age_s`: since everything began."""
        yield from self._router(look)
        for status in look.workers:
            yield from self._worker(status, look, age_s)
        if any(one.state is not ActorState.LIVE for one in (look.router, *look.workers)):
            self._is_whole = False
        elif not self._is_whole and all(_is_live(status, look) for status in look.workers):
            self._is_whole = True
            n = len(look.workers)
            yield f"serving with {'1 engine' if n == 1 else f'all {n} engines'} ({age_s:.1f} s)"

    def _router(self, look: Look) -> Iterator[str]:
        status = look.router
        if status.deaths != self._deaths.get(status.name, 0):
            # Looks may miss the pause after it.
            self._deaths[status.name] = status.deaths
            self._is_whole = False
            yield f"router is down: {status.reason}; it starts again"
        if status.state is ActorState.LIVE and self._is_new(status.name, status.incarnation):
            yield f"router listens at {status.address}"
            yield from look.pages

    def _worker(self, status: ActorStatus, look: Look, age_s: float) -> Iterator[str]:
        name = WorkerId(status.name)
        if status.deaths != self._deaths.get(name, 0):
            # Looks may miss the pause after it. A refusal is said once however often it comes.
            self._deaths[name] = status.deaths
            what = "is down" if name in self._joined else "cannot join"
            self._joined.discard(name)
            if self._is_new(name, what, status.reason):
                yield f"{name} {what}: {with_flags(status.reason)}; it is tried again"
        member = look.members.get(name, Member(""))
        if status.state is ActorState.LIVE and member.state == REFUSED:
            if self._is_new(name, REFUSED, status.incarnation, member.reason):
                yield f"{name} refused by the router: {member.reason}"
        elif _is_live(status, look):
            self._joined.add(name)
            if self._is_new(name, LIVE, status.incarnation):
                yield f"{name} joined: {self._facts(name, look)} ({age_s:.1f} s)"
        elif status.state is ActorState.DRAINING:
            if self._is_new(name, status.state, status.incarnation):
                yield f"{name}: its process was told to end; what runs there ends first"
        elif (why := look.unheard.get(name)) is not None and self._is_new(name, "unheard", why):
            yield f"{name}: waiting for {self._urls[name]}: {why}"

    def _facts(self, name: WorkerId, look: Look) -> str:
        facts = look.facts.get(name)
        if facts is None:
            return self._urls[name]
        pool = f"{facts.kv_blocks_total:,} blocks" if facts.kv_blocks_total else "pool not told"
        adapters = f", adapters {', '.join(facts.adapters)}" if facts.adapters else ""
        return (
            f"{facts.model} ({facts.kind}) at {self._urls[name]}, block size {facts.block_size},"
            f" {pool}, up to {facts.max_model_len:,} tokens{adapters}"
        )

    def _is_new(self, about: str, *what: object) -> bool:
        is_new = self._said.get(about) != what
        self._said[about] = what
        return is_new


def with_flags(reason: str) -> str:
    """The reason, with settings as the options of the command."""
    for setting, option in FLAGS.items():
        reason = re.sub(rf"{re.escape(setting)}\b", option, reason)
    return reason


def _is_live(status: ActorStatus, look: Look) -> bool:
    member = look.members.get(WorkerId(status.name))
    return status.state is ActorState.LIVE and member is not None and member.state == LIVE
