"""Special days: what shows only where something is large, and nothing else happens.

Each is as dear as a usual day: requests share no long prompts and ask for little.
"""

import random
from collections.abc import Callable, Sequence

from tests.simulation.deeds import Deed, Hoard, Lie, Pieces, Submit
from tests.simulation.plan import Plan, WorkerPlan
from tests.simulation.prompts import BLOCK_TOKENS

_OWN = 2000  # numbers of texts that nobody else has begin here


def crowded(seed: int) -> Plan:
    """Many wait for a few seats, and most of them go before they have one."""
    rng = random.Random(f"crowded {seed}")
    bursts = [rng.randrange(100, 300) for _ in range(3)]
    tenants, bands = rng.choice((("",), ("a", "b", "b"))), rng.choice(((5,), (0, 5, 9)))
    deeds = [
        _submit(
            rng.choice(bursts),
            number,
            ((rng.randrange(4), 2 * BLOCK_TOKENS),),
            tenant=rng.choice(tenants),
            priority=rng.choice(bands),
            hangs_up_after_ms=rng.randrange(200, 700) if rng.random() < 0.92 else None,
        )
        for number in range(rng.randint(300, 360))
    ]
    workers = [_worker(f"w{n}", seats=1, step_us=40_000) for n in range(2)]
    return _plan(seed, "crowded", workers, deeds)


def even(seed: int) -> Plan:
    """Nothing is shared and all are alike, so all should have as much to do."""
    rng = random.Random(f"even {seed}")
    deeds, at_ms = [], 300.0
    for number in range(rng.randint(110, 130)):
        at_ms += rng.expovariate(1 / 30)
        tokens = rng.randint(10, 60) if rng.random() < 0.3 else rng.randint(200, 1200)
        deeds.append(_submit(round(at_ms), number, ((_OWN + number, tokens),)))
    workers = [_worker(f"w{n}", kv_blocks=20_000) for n in range(3)]
    return _plan(seed, "even", workers, deeds)


def hoarding(seed: int) -> Plan:
    """More copies of one block than are counted, and then a few."""
    rng = random.Random(f"hoarding {seed}")
    workers = [_worker(f"w{n}") for n in range(2)]
    deeds: list[Deed] = [
        _submit(rng.randrange(1200), number, ((rng.randrange(4), 40), (_OWN + number, 20)))
        for number in range(rng.randint(8, 16))
    ]
    text = ((_OWN - 1, BLOCK_TOKENS),)  # that nobody asks for
    copies, kept = rng.randint(1024, 1040), rng.randint(1, 9)
    deeds.append(Hoard(rng.randrange(600, 1000), rng.choice(workers).name, 150, text, copies, kept))
    return _plan(seed, "hoarding", workers, deeds)


# An index of which what both workers hold at most takes four fifths.
_CHAIN_BLOCKS, _CHAIN_INDEX_BYTES = 700, 256 << 10


def chained(seed: int) -> Plan:
    """Long prompts come and go, each from its beginning on, and the index is small."""
    rng = random.Random(f"chained {seed}")
    workers = [_worker(f"w{n}", kv_blocks=2000, parents_first=True) for n in range(2)]
    deeds = [
        _submit(
            150 * number + rng.randrange(100),
            number,
            ((_OWN + number, BLOCK_TOKENS * rng.randint(_CHAIN_BLOCKS - 100, _CHAIN_BLOCKS)),),
        )
        for number in range(rng.randint(18, 22))
    ]
    return _plan(seed, "chained", workers, deeds, index_bytes=_CHAIN_INDEX_BYTES)


def mistaken(seed: int) -> Plan:
    """One of them tells one block as the beginning of prompts, and all that it says else is so."""
    rng = random.Random(f"mistaken {seed}")
    workers = [_worker(f"w{n}") for n in range(rng.choice((2, 3)))]
    deeds: list[Deed] = [
        _submit(rng.randrange(1500), number, ((rng.randrange(6), 40), (_OWN + number, 60)))
        for number in range(rng.randint(16, 24))
    ]
    deeds += [
        Lie(rng.randrange(300, 1200), rng.choice(workers).name, 1500, "one_root") for _ in range(2)
    ]
    return _plan(seed, "mistaken", workers, deeds)


SPECIAL_DAYS: tuple[Callable[[int], Plan], ...] = (crowded, even, hoarding, chained, mistaken)


def _submit(at_ms: int, number: int, pieces: Pieces, **named) -> Submit:
    return Submit(
        at_ms=at_ms,
        request_id=f"r{number:03d}",
        pieces=pieces,
        max_tokens=1,
        policy="radix",
        timeout_ms=60_000,
        **named,
    )


def _worker(
    name: str,
    *,
    seats: int = 8,
    step_us: int = 8000,
    kv_blocks: int = 600,
    parents_first: bool = False,
) -> WorkerPlan:
    return WorkerPlan(
        name=name,
        seats=seats,
        queue_len=64,
        says_seats=True,
        says_queue=True,
        kv_blocks=kv_blocks,
        batch_tokens=4096,
        step_us=step_us,
        prefill_us=50,
        decode_us=200,
        ring_batches=20,
        says_finish_apart=False,
        stores_again=False,
        removes_parents_first=parents_first,
    )


def _plan(
    seed: int, mode: str, workers: Sequence[WorkerPlan], deeds: Sequence[Deed], **named
) -> Plan:
    in_order = sorted(deeds, key=lambda deed: deed.at_ms)
    return Plan(seed=seed, mode=mode, workers=tuple(workers), deeds=tuple(in_order), **named)
