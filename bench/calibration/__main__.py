"""`make bench-calibration`: the simulated fleet, calibrated, beside our own engine that serves.

A fleet of our engine (SmolLM2, one worker on one core unless asked for more), calibrated on one
draw of the workload at a light load: a timing fitted to the engine's own steps, and the way there
and back as it was measured. Then three draws that nothing was fitted to, at 0.3, 0.6 and 0.9 of
what the fleet serves if all comes at once, live and simulated: the same arrivals, the same policy.
Writes bench/results/calibration.json. Needs two quiet cores: the file says how crowded they were.
"""

import argparse
import asyncio
import os
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import chain
from pathlib import Path

from bench.calibration.fleet import Fleet, own_fleet
from bench.calibration.judgement import KINDS, Pair, crowding, load_rows, pair, step_rows, ways
from bench.calibration.step_recording import TimedStep, between, read_steps
from bench.calibration.workloads import MANY_OUTPUT_TOKENS, all_at_once, at_speed, drawn
from bench.rows import Row, write
from radixroute.demo.machine import machine, versions
from radixroute.demo.model import ensure_model
from radixroute.live.replay import LiveResult, LiveRun, replay_live
from radixroute.live.request_log_reader import RequestLogReader
from radixroute.protos import radixroute_pb2 as pb
from radixroute.replay.calibration.fitting import Calibration, fit
from radixroute.replay.calibration.rows import Rows, WayRow
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Conditions, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.trace import Trace

RESULTS = Path("bench/results/calibration.json")
LOADS = (0.3, 0.6, 0.9)
PROBE_SEED, CALIBRATION_SEED, FIRST_SEED = 200, 100, 1
DRAWS = 3
PROBES = 10  # requests, one after the other
CALIBRATION_LOAD = 0.6  # of what the probes take one after the other
CALIBRATION_S = 90.0
RUN_S = 60.0
MAX_REQUESTS = 1_000


@dataclass(frozen=True, slots=True)
class Observed:
    """A live run from all sides."""

    live: LiveResult
    steps: list[list[TimedStep]]  # of each worker, meanwhile
    log: list[pb.EndedRequest]  # the router's

    @property
    def all_steps(self) -> list[TimedStep]:
        return [*chain(*self.steps)]

    def ways(self) -> list[WayRow]:
        """Where it can be told which worker had a request: of one alone."""
        busy = [steps for steps in self.steps if steps]
        return ways(self.live, busy[0], self.log) if len(busy) == 1 else []


class Bench:
    """One run over a fleet that serves."""

    def __init__(self, fleet: Fleet, run_s: float, calibration_s: float) -> None:
        self._fleet = fleet
        self._run_s, self._calibration_s = run_s, calibration_s
        facts = fleet.facts
        self._shape = FleetShape(
            workers=len(facts.workers),
            kv_blocks=facts.kv_blocks,
            block_size=facts.block_size,
            max_num_batched_tokens=facts.max_num_batched_tokens,
            max_num_seqs=facts.max_num_seqs,
        )

    async def calibrate(self) -> tuple[Rows, Calibration, float]:
        """What was measured, what was fitted, and how crowded it was."""
        probe_s, alone = await self._probed()
        per_s = CALIBRATION_LOAD * self._shape.workers / probe_s
        n = max(20, min(MAX_REQUESTS, round(per_s * self._calibration_s)))
        trace = at_speed(drawn(CALIBRATION_SEED, n, MANY_OUTPUT_TOKENS), per_s)
        seen = await self.live(trace, CALIBRATION_SEED)
        rows = Rows(
            self._shape.kv_blocks * self._shape.block_size,
            chunk_tokens=self._shape.max_num_batched_tokens,
            steps=tuple(step.row for one in (*alone, seen) for step in one.all_steps),
            way=tuple(way for one in (*alone, seen) for way in one.ways()),
        )
        return rows, fit(rows), crowding(seen.all_steps)

    async def _probed(self) -> tuple[float, list[Observed]]:
        """Seconds of a request in the mean, one after the other, and each from all sides."""
        first = at_speed(drawn(PROBE_SEED, 3), 2.0)
        await self.live(first, PROBE_SEED + 1000)  # the first ones pay for all
        began, found = time.monotonic(), []
        for request in range(PROBES):
            one = drawn(PROBE_SEED + request, 1, MANY_OUTPUT_TOKENS)
            found.append(await self.live(at_speed(one, 100.0), PROBE_SEED + request))
        return (time.monotonic() - began) / PROBES, found

    async def live(self, trace: Trace, seed: int) -> Observed:
        since_ns, reader = time.monotonic_ns(), RequestLogReader()
        reader.skip(await self._fleet.client.request_log(0))
        facts = self._fleet.facts
        run = LiveRun(facts.policy, seed=seed)
        found = await replay_live(self._fleet.client, trace, facts, run, lambda _: None)
        until_ns = time.monotonic_ns()
        files = self._fleet.step_files
        steps = [between(read_steps(file), since_ns, until_ns) for file in files]
        log: list[pb.EndedRequest] = []
        while not log or reader.is_behind:
            log += reader.take(await self._fleet.client.request_log(reader.after))
        return Observed(found, steps, log)

    def simulated(self, trace: Trace, found: Calibration) -> RunResult:
        conditions = found.way.onto(Conditions())
        scenario = Scenario(self._shape, found.timing, conditions=conditions)
        return simulate(trace, self._fleet.facts.policy, scenario)

    def capacity(self, trace: Trace, found: Calibration) -> float:
        """Requests a second that are served if all are there at once."""
        result = self.simulated(all_at_once(trace), found)
        return len(trace) / (int(result.finish_ns.max()) / 1e9)

    async def compare(
        self, load: float, seed: int, found: Calibration
    ) -> tuple[Pair, list[TimedStep]]:
        per_s = load * self.capacity(drawn(seed, MAX_REQUESTS // 10), found)
        n = max(8, min(MAX_REQUESTS, round(per_s * self._run_s)))
        trace = drawn(seed, n)
        paced = at_speed(trace, load * self.capacity(trace, found))
        seen = await self.live(paced, seed)
        told = seen.all_steps
        return pair(load, seen.live, self.simulated(paced, found), told), told


async def measure(args: argparse.Namespace) -> tuple[list[Row], dict[str, object]]:
    pairs: list[Pair] = []
    steps: list[TimedStep] = []
    with tempfile.TemporaryDirectory() as folder:
        async with own_fleet(ensure_model(), args.workers, Path(folder)) as fleet:
            bench = Bench(fleet, args.seconds, 1.5 * args.seconds)
            rows, found, crowded = await bench.calibrate()
            say_fit(found, crowded)
            for draw in range(DRAWS):
                for number, load in enumerate(LOADS):
                    seed = FIRST_SEED + draw * len(LOADS) + number
                    one, told = await bench.compare(load, seed, found)
                    pairs.append(one)
                    steps += told
                    say_pair(one)
    by_load = [load_rows(load, [one for one in pairs if one.load == load]) for load in LOADS]
    more: dict[str, object] = {
        "workers": args.workers,
        "crowding": {"calibration": crowded, "runs": crowding(steps)},
        "fitted": asdict(found),
        "measured": {"steps": len(rows.steps), "ways": len(rows.way)},
        "runs": [one.record() for one in pairs],
    }
    return [*step_rows(found.timing, steps), *chain(*by_load)], more


def say_fit(found: Calibration, crowded: float) -> None:
    t = found.timing
    print(
        f"a step takes {t.every:.3g} ms, {t.a1:.3g} a prompt token, {1e3 * t.a_pair:.3g} a thousand"
        f" tokens read, {t.a_each:.3g} a prompt, {t.d_each:.3g} a request that decodes,"
        f" {1e3 * t.d1 / t.kv_tokens:.3g} a thousand tokens of its context; the way"
        f" {found.way.dispatch_ms:.3g} ms there, {found.way.client_ms:.3g} around it"
    )
    for name, told in (("prefill", found.prefill), ("decode", found.decode)):
        print(f"  {KINDS[name]}: {told.rows} steps, each off by {told.mean:.1%} in the mean")
    if found.beside is not None:
        print(f"  {KINDS['beside']}: {found.beside.rows}, {found.beside.mean:.1%}")
    print(f"  steps took {crowded:.3f} of the processor's time that they had (quiet: 1)")


def say_pair(one: Pair) -> None:
    print(
        f"load {one.load:g}, {one.requests} requests: first token {one.live_ttft_ms:,.0f} ms live,"
        f" {one.simulated_ttft_ms:,.0f} simulated ({one.error:+.1f} %), reuse"
        f" {one.live_reuse:.3f} and {one.simulated_reuse:.3f}; crowded x{one.crowding:.2f}",
        flush=True,
    )


def show(rows: Sequence[Row]) -> None:
    for row in rows:
        bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:32} {row.ours:12,.3f} {row.unit:8} {bar}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, default=1, help="each takes a core")
    parser.add_argument("--seconds", type=float, default=RUN_S, help="of each live run")
    parser.add_argument("--results", type=Path, default=RESULTS)
    args = parser.parse_args()
    began = time.monotonic()
    rows, more = asyncio.run(measure(args))
    show(rows)
    load = {"load_average": os.getloadavg()[0], "seconds": time.monotonic() - began}
    write(args.results, rows, machine(), versions(""), {**load, **more})
    print(f"written to {args.results}")


if __name__ == "__main__":
    main()
