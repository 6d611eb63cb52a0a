"""`make bench-overload`: what is served when more is asked than can be, and what an input costs.

The first is in virtual time over simulated engines: the rates are the queue's doing, the same on
any machine. The second is this machine's time for each input of the core, with 100 to 100,000
requests waiting. The third is how soon a client hears that the house is full. Writes
bench/results/overload.json.
"""

import asyncio
import random
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from statistics import median

import numpy as np

from bench.overload.engines import MS, Outcome, Overload, S
from bench.overload.refusals import refusals_ms
from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.radix.ids import Holder, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.request.sampling import SamplingParams
from radixroute.router.core.router_core import RouterCore
from radixroute.router.messages.actions import Dispatch
from radixroute.router.messages.inputs import MemberSpec, RequestSpec, StepReport, WorkerFacts
from radixroute.router.settings import RouterSettings

RESULTS = Path("bench/results/overload.json")
SECONDS = 30.0
TIMES = (1.0, 2.0, 5.0, 10.0)
WAITING = (100, 1_000, 10_000, 100_000)
ROUNDS = 200


def capacity_per_s() -> float:
    """What the fleet serves when it always has work: the plateau."""
    return max(Overload(per_s, SECONDS).run().served_per_s for per_s in (20.0, 40.0, 80.0))


def overloads() -> tuple[list[Row], list[dict[str, float]]]:
    plateau = capacity_per_s()
    rows, outcomes = [alone("overload.plateau", plateau, "requests/s")], []
    for times in TIMES:
        outcome: Outcome = Overload(times * plateau, SECONDS).run()
        outcomes.append(asdict(outcome))
        name, is_bound = f"overload.x{times:g}", 1 < times <= 5
        goodput = outcome.served_per_s / plateau
        rows.append(alone(f"{name}.goodput_of_plateau", goodput, "share"))
        rows.append(alone(f"{name}.recovery", outcome.recovery_s, "s", 5.0 if is_bound else None))
        rows.append(alone(f"{name}.lost", float(outcome.other), "requests", 0.0))
        print(name, f"goodput {goodput:.3f} of the plateau", outcome)
        if is_bound and goodput < 0.9:
            print("below the bar of 0.9")
    return rows, outcomes


def spec(n: int, now_ns: int, name: str = "r") -> RequestSpec:
    return RequestSpec(
        request_id=f"{name}{n}",
        prompt=np.zeros(600, np.uint32),
        keys=np.arange(9, dtype=np.uint64) + np.uint64(1000 * n + 1),
        sampling=SamplingParams(max_tokens=64),
        policy="radix",
        arrival_ns=now_ns,
        deadline_ns=now_ns + 10**6 * S,
        tenant=f"t{n % 7}",
        priority=n % 10,
    )


def crowded(n: int) -> tuple[RouterCore, str]:
    """One worker that has all it seats, so many requests behind it, and one that runs there."""
    settings = RouterSettings(router_id="bench", max_waiting=1 << 20, max_in_flight=1 << 20)
    index = PrefixIndex()
    core = RouterCore(settings, index, random.Random(1))
    worker_id = WorkerId("w")
    core.set_members([MemberSpec(worker_id, "w:1", 1)], 0)
    index.join(Holder(worker_id))
    core.joined(WorkerFacts(worker_id, "1", 64, frozenset(), 4096, 2048, 4, 4), 0)
    running = ""
    for k in range(n):
        for action in core.submit(spec(k, k), k):
            if isinstance(action, Dispatch):
                running = action.spec.request_id
    return core, running


def timed_us(calls: list[Callable[[], object]]) -> float:
    taken = []
    for one in calls:
        started = time.perf_counter()
        one()
        taken.append(time.perf_counter() - started)
    return 1e6 * median(taken)


def inputs(core: RouterCore, running: str, now_ns: int) -> dict[str, list[Callable[[], object]]]:
    """What is timed, by name. None of them but the last changes who could be served."""
    worker_id, step = WorkerId("w"), StepReport(5.0, 0, 1, ())
    more = [spec(k, now_ns, "more") for k in range(ROUNDS)]
    return {
        "submit": [partial(core.submit, one, now_ns) for one in more],
        "step": [partial(core.step, worker_id, step, now_ns)] * ROUNDS,
        "abort": [partial(core.abort, one.request_id, now_ns) for one in more],
        "tick": [partial(core.tick, now_ns)] * ROUNDS,
        "a worker falls free": [partial(core.abort, running, now_ns)],
    }


def costs() -> list[Row]:
    rows = []
    for n in WAITING:
        core, running = crowded(n)
        for what, calls in inputs(core, running, n + MS).items():
            rows.append(alone(f"queue.{n}.{what}", timed_us(calls), "us"))
            print(rows[-1])
    return rows


def refusals() -> list[Row]:
    """Milliseconds at the client, of calls that a full house refuses."""
    taken = asyncio.run(refusals_ms())
    at = {"p50": 0.5, "p99": 0.99, "max": 1.0}
    rows = [
        alone(f"refused.{name}", taken[min(len(taken) - 1, int(len(taken) * share))], "ms")
        for name, share in at.items()
    ]
    print(len(taken), "refused:", *rows)
    return rows


def main() -> int:
    rows, outcomes = overloads()
    rows += costs()
    rows += refusals()
    write(RESULTS, rows, machine(), versions(""), {"outcomes": outcomes, "seconds": SECONDS})
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
