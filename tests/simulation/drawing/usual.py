"""Usual days: some of each fault, and more of what a day's mode is named for. Pure."""

import random
from collections.abc import Callable
from typing import NamedTuple

from tests.simulation.deeds import (
    LIES,
    BreakSession,
    ClearCache,
    CutEvents,
    Deed,
    Freeze,
    JumpClock,
    Kill,
    Lie,
    Misfit,
    Pieces,
    ReportDead,
    Stall,
    StopRouter,
    Submit,
    TakeLease,
    Unlist,
    Weather,
)
from tests.simulation.plan import Plan, WorkerPlan
from tests.simulation.prompts import BLOCK_TOKENS

# By seed. Days on which little happens are the rarer ones.
MODES = ("quiet", "deadly", "lossy", "lying", "bursty", "deadly", "lossy", "lying")


class Size(NamedTuple):
    """How much happens in a world."""

    busy_ms: int  # deeds fall into this time
    requests: tuple[int, int]  # from, to
    leases: tuple[int, ...]  # one of these


# Most worlds are small: as many faults in less time, so that more of them meet.
SMALL = Size(1200, (10, 30), (0, 0, 3, 12))
LARGE = Size(3000, (20, 60), (0, 0, 3, 25))


def usual_day(seed: int) -> Plan:
    rng = random.Random(f"plan {seed}")
    mode = MODES[seed % len(MODES)]
    size = rng.choice((SMALL, SMALL, LARGE))
    names = [f"w{n}" for n in range(rng.choice((2, 3, 3, 4)))]
    seats = rng.choice((2, 4, 8))
    says = rng.choice(((True, True),) * 5 + ((True, False), (False, False)))
    workers = tuple(_worker(rng, name, seats, *says) for name in names)
    deeds = [*_submits(rng, mode, size), *_leases(rng, size), *_faults(rng, mode, size, names)]
    if mode in {"bursty", "deadly"} and rng.random() < 0.5:
        deeds += _night(rng, size, names)
    if mode == "lying" and rng.random() < 0.6:
        deeds += _errors(rng, size, names)
    is_tight = rng.random() < 0.15
    return Plan(
        seed=seed,
        mode=mode,
        workers=workers,
        max_waiting=3 if is_tight else 4096,
        max_waiting_tokens=rng.choice((500, 10**6)) if is_tight else 10**6,
        max_in_flight=8 if is_tight else 4096,
        max_in_flight_bytes=rng.choice((4000, 10**6)) if is_tight else 10**6,
        max_in_flight_tokens=rng.choice((1500, 10**6)) if is_tight else 10**6,
        deeds=tuple(sorted(deeds, key=lambda deed: deed.at_ms)),
    )


def _worker(
    rng: random.Random, name: str, seats: int, says_seats: bool, says_queue: bool
) -> WorkerPlan:
    return WorkerPlan(
        name=name,
        seats=seats,
        queue_len=rng.choice((2, 64)),
        says_seats=says_seats,
        says_queue=says_queue,
        kv_blocks=rng.choice((60, 200, 600)),
        batch_tokens=rng.choice((64, 256)),
        step_us=rng.choice((8000, 20_000)),
        prefill_us=rng.choice((50, 200)),
        decode_us=rng.choice((200, 1000)),
        ring_batches=rng.choice((2, 20)),
        says_finish_apart=rng.random() < 0.3,
        stores_again=rng.random() < 0.4,
        removes_parents_first=rng.random() < 0.4,
    )


_POLICIES = (
    "radix",
    "radix_at_once",
    "least_loaded",
    "round_robin",
    "power_of_two",
    "session_affinity",
    "prefix_approx",
    "dynamo",
    "dynamo_wspt",
    "llm_d",
)


def _prompt(rng: random.Random) -> Pieces:
    """A shared beginning, turns of a session behind it, and mostly something of its own."""
    family = rng.randrange(5)
    pieces = [(family, BLOCK_TOKENS * (4 + family * 3))]
    session = rng.randrange(6)
    pieces += [(100 + 20 * session + turn, 20) for turn in range(rng.randrange(4))]
    if rng.random() < 0.7:
        pieces.append((1000 + rng.randrange(1_000_000), rng.randint(1, 60)))
    return tuple(pieces)


def _submits(rng: random.Random, mode: str, size: Size) -> list[Deed]:
    n = rng.randint(*size.requests)
    policy = "radix" if rng.random() < 0.6 else rng.choice(_POLICIES)
    mixes = rng.random() < 0.2
    bursts = [rng.randrange(size.busy_ms) for _ in range(rng.randint(1, 3))]
    hangs_up = rng.choice((0.05, 0.3))
    tenants, bands = _classes(rng)
    return [
        Submit(
            at_ms=rng.choice(bursts) if mode == "bursty" else rng.randrange(size.busy_ms),
            request_id=f"r{number:03d}",
            pieces=_prompt(rng),
            max_tokens=rng.choice((1, 2, 4, 8, 16)),
            policy=rng.choice(_POLICIES) if mixes else policy,
            timeout_ms=rng.choice((3, 10, 300, 2000)) if rng.random() < 0.05 else 60_000,
            session=rng.choice((None, rng.randrange(6))),
            tenant=rng.choice(tenants),
            priority=rng.choice(bands),
            tokenises_ms=rng.randrange(60) if rng.random() < 0.2 else None,
            hangs_up_after_ms=rng.randrange(800) if rng.random() < hangs_up else None,
            hangs_up_after_tokens=rng.randint(1, 6) if rng.random() < hangs_up else None,
            kills=mode == "deadly" and rng.random() < 0.04,
        )
        for number in range(n)
    ]


def _classes(rng: random.Random) -> tuple[tuple[str, ...], tuple[int, ...]]:
    """Tenants and bands of a seed; mostly one."""
    tenants = rng.choice((("",), ("",), ("a", "b", "b", "b")))
    return tenants, rng.choice(((5,), (5,), (0, 5, 5, 9)))


def _leases(rng: random.Random, size: Size) -> list[Deed]:
    tenants, bands = _classes(rng)
    return [
        TakeLease(
            at_ms=rng.randrange(size.busy_ms),
            request_id=f"l{number:02d}",
            pieces=_prompt(rng),
            max_tokens=rng.choice((1, 4)),
            policy=rng.choice(_POLICIES),
            tenant=rng.choice(tenants),
            priority=rng.choice(bands),
            uses_after_ms=rng.choice((5, 90, 1500)) if rng.random() < 0.7 else None,
            releases=rng.random() < 0.6,
            hangs_up_after_ms=rng.randrange(300) if rng.random() < 0.2 else None,
        )
        for number in range(rng.choice(size.leases))
    ]


# Faults of each kind that a mode has on average.
_FAULTS: dict[str, dict[str, float]] = {
    "quiet": {"weather": 0.3, "clear": 0.3},
    "bursty": {"stall": 0.5, "weather": 0.5, "clear": 0.5, "stop": 0.3, "jump": 0.2},
    "deadly": {
        "kill": 2.5, "freeze": 0.8, "stall": 0.5, "break": 1.0, "unlist": 0.7, "report": 0.4,
        "misfit": 0.3, "stop": 0.3, "jump": 0.3, "cut": 0.3, "clear": 0.3,
    },
    "lossy": {
        "weather": 3.0, "cut": 1.0, "kill": 0.7, "freeze": 0.5, "clear": 1.0, "stop": 0.3,
        "break": 0.3,
    },
    "lying": {"lie": 4.5, "kill": 0.4, "weather": 0.5, "break": 0.3, "unlist": 0.3},
}  # fmt: skip


def _faults(rng: random.Random, mode: str, size: Size, names: list[str]) -> list[Deed]:
    deeds: list[Deed] = []
    for kind, mean in _FAULTS[mode].items():
        n = int(mean) + (rng.random() < mean % 1)
        for _ in range(n):
            worker, at_ms = rng.choice(names), rng.randrange(size.busy_ms)
            deeds.append(_MAKERS[kind](rng, at_ms, worker))
    return deeds


def _kill(rng: random.Random, at_ms: int, worker: str) -> Kill:
    noticed_after_ms = rng.choice((0, 20, 400))
    back_after_ms = noticed_after_ms + rng.choice((30, 500, 2500))
    how = rng.choice(("replaced", "by_hand", "unlisted", "restarting"))
    return Kill(at_ms, worker, how, noticed_after_ms, back_after_ms)


def _night(rng: random.Random, size: Size, names: list[str]) -> list[Deed]:
    """All of them die, stand still, or go to where no router looks."""
    at_ms, how = rng.randrange(size.busy_ms), rng.choice(("replaced", "unlisted", "restarting"))
    ms = rng.choice((400, 2500, 2500))
    if rng.random() < 0.3:
        return [Freeze(at_ms, name, 2600) for name in names]
    if rng.random() < 0.5:
        return [Unlist(at_ms, name, ms) for name in names]
    return [Kill(at_ms, name, how, 20, ms) for name in names]


def _errors(rng: random.Random, size: Size, names: list[str]) -> list[Deed]:
    """One of them, or all, fail what they are given."""
    at_ms = rng.randrange(size.busy_ms // 4)
    bad = names if rng.random() < 0.6 else [rng.choice(names)]
    kind = rng.choice(("errors", "refuses"))
    return [Lie(at_ms, name, 1500, kind) for name in bad]


def _weather(rng: random.Random, at_ms: int, worker: str) -> Weather:
    return Weather(
        at_ms,
        worker,
        rng.choice((200, 1000, 2500)),
        lose=rng.choice((0, 5, 30)),
        repeat=rng.choice((0, 20)),
        delay=rng.choice((0, 30)),
        mangle=rng.choice((0, 10)),
        garbage=rng.choice((0, 0, 5)),
        drop=rng.choice((0, 10)),
    )


_MAKERS: dict[str, Callable[[random.Random, int, str], Deed]] = {
    "kill": _kill,
    "stall": lambda rng, at, worker: Stall(at, worker, rng.choice((200, 1500, 3500))),
    "freeze": lambda rng, at, worker: Freeze(at, worker, rng.choice((300, 1200, 2600))),
    "break": lambda rng, at, worker: BreakSession(at, worker),
    "cut": lambda rng, at, worker: CutEvents(at, worker, rng.choice((100, 700, 1500))),
    "weather": _weather,
    "clear": lambda rng, at, worker: ClearCache(at, worker),
    "lie": lambda rng, at, worker: Lie(at, worker, rng.choice((300, 1500)), rng.choice(LIES)),
    "unlist": lambda rng, at, worker: Unlist(at, worker, rng.choice((10, 300, 1500))),
    "report": lambda rng, at, worker: ReportDead(at, worker),
    "misfit": lambda rng, at, worker: Misfit(at, worker, rng.choice((500, 2000))),
    "stop": lambda rng, at, worker: StopRouter(at, rng.choice((50, 400, 1500))),
    "jump": lambda rng, at, worker: JumpClock(at, rng.choice((100, 1000, 20_000))),
}
