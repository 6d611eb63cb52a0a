"""Watching: an engine that counts no steps lives for as long as it proves that it computes."""

import time
from types import SimpleNamespace
from typing import Any

from radixroute.worker.companions.dialects.dialect import Answer
from radixroute.worker.companions.dialects.sglang import SglangDialect
from radixroute.worker.companions.health import ANOTHER_LIFE, STUCK, Vitals
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.companions.watching import Watch

S = 10**9


class Watched:
    busy_ranks: tuple[int, ...] = (0,)

    def __init__(self) -> None:
        self.looks: list[bool] = []

    def on_well(self, *, has_moved: bool) -> None:
        self.looks.append(has_moved)

    def on_dead(self, reason: str) -> None: ...


class Http:
    """Answers by path; all else is not there."""

    def __init__(self, **statuses: int) -> None:
        self.statuses = {f"/{name}": status for name, status in statuses.items()}
        self.asked: list[str] = []

    async def ask(self, ask: Any, timeout_s: float = 5.0) -> Answer:
        self.asked.append(ask.path)
        return Answer(self.statuses.get(ask.path, 200 if ask.path == "/v1/models" else 404))


def watch_of(http: Http) -> tuple[Watch, Watched, Vitals]:
    joined: Any = SimpleNamespace(dialect=SglangDialect(), statement=SimpleNamespace(model="m"))
    vitals, watched = Vitals(30 * S, moved_ns=time.monotonic_ns()), Watched()
    server: Any = http
    return Watch(joined, server, CompanionSettings(), vitals, watched), watched, vitals


async def test_routers_hear_that_it_moves_until_it_must_prove_it():
    http = Http(health_generate=200)
    watch, watched, vitals = watch_of(http)
    assert await watch.look() == ""
    assert "/health_generate" not in http.asked
    vitals.moved_ns -= 31 * S  # a long prompt: nothing came
    assert await watch.look() == ""
    assert http.asked.count("/health_generate") == 1
    assert await watch.look() == ""  # that was proof for as long again
    assert http.asked.count("/health_generate") == 1
    assert watched.looks == [True, True, True]


async def test_without_proof_it_is_stuck():
    watch, watched, vitals = watch_of(Http(health_generate=503))
    vitals.moved_ns -= 31 * S
    assert await watch.look() == STUCK
    assert watched.looks == []
    watched.busy_ranks = ()
    assert await watch.look() == ""  # nobody waits for it


async def test_a_link_that_broke_ends_the_life_of_one_that_does_not_say_when_it_began():
    watch, _, vitals = watch_of(Http())
    follower: Any = SimpleNamespace(breaks=0, is_alive=True)
    watch.followed = follower
    assert await watch.look() == ""
    follower.breaks = 1
    assert await watch.look() == ANOTHER_LIFE
    vitals.started_s = 7.0  # it says it after all, and has not begun anew
    assert await watch.look() == ""
