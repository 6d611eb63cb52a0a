"""`python -m bench.replay.agents`: every policy on programs of agents (`synth agents`).

Per setting (workers, share of capacity) and policy: mean time to first token, time between tokens,
and time until a program ends. The same programs come at each load, only more often: their tools
take as long as ever. Then what the default comes to: against the best other policy at each setting,
and its programs against those of `dynamo_agentic`. Writes bench/results/agents.json.

Capacity: the rate of programs whose work fills all workers, if these shared one cache as large as
all together; decoding with as many requests at once as half of a worker's KV memory holds.
"""

import argparse
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import numpy as np

from bench.rows import Row, alone, write
from radixroute.demo.machine import machine, versions
from radixroute.replay.analysis.bounds import bounds
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import POLYNOMIAL
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes
from radixroute.router.policy.registry import LAB_POLICIES, POLICIES

RESULTS = Path("bench/results/agents.json")
WORKERS = (4, 8, 16)
LOADS = (0.2, 0.6, 0.9)
SEEDS = (21, 22)  # that no constant was chosen on
REQUESTS = 3_000
KV_BLOCKS, BLOCK_SIZE = 16384, 64
OURS, PEER = "radix", "dynamo_agentic"
ASIDE = ("radix_at_once", "prefix_approx")  # other forms of ours: no rivals of it
RUNNING_SHARE = 0.5


@dataclass(frozen=True, slots=True)
class Figures:
    """Of one setting and policy, means over the seeds."""

    ttft_ms: float
    ttft_p99_ms: float
    itl_ms: float
    program_s: float
    program_p50_s: float
    program_p99_s: float
    reuse: float


FIGURES = tuple(Figures.__dataclass_fields__)
UNITS = dict.fromkeys(FIGURES, "ms") | {
    **dict.fromkeys(("program_s", "program_p50_s", "program_p99_s"), "s"),
    "reuse": "of tokens",
}


def capacity_per_s(trace: Trace, workers: int) -> float:
    """Programs a second that fill so many workers."""
    numbered = prefixes(trace, BLOCK_SIZE)
    cached = bounds(trace, numbered, workers, KV_BLOCKS)["pooled_lru"].fraction
    n_tokens = trace.output_tokens - 1
    context = float((n_tokens * (trace.input_tokens + trace.output_tokens / 2)).sum())
    context /= float(n_tokens.sum())
    kv_tokens = KV_BLOCKS * BLOCK_SIZE
    together = max(1.0, RUNNING_SHARE * kv_tokens / context)
    step_ms = replace(POLYNOMIAL, kv_tokens=kv_tokens).decode_ms(together, together * context)
    prefill_ms = sum(map(POLYNOMIAL.prefill_ms, (trace.input_tokens * (1 - cached)).tolist()))
    work_s = (prefill_ms + float(n_tokens.sum()) / together * step_ms) / 1e3
    return workers * (int(trace.programs.max()) + 1) / work_s


@lru_cache(maxsize=2)
def workload(seed: int, per_s: float, requests: int) -> tuple[Trace, Prefixes]:
    trace = synthesize("agents", seed, Agents(requests=requests, programs_per_s=per_s))
    return trace, prefixes(trace, BLOCK_SIZE)


def figures(policy: str, workers: int, per_s: float, args: argparse.Namespace) -> Figures:
    found = []
    for seed in args.seeds:
        trace, numbered = workload(seed, per_s, args.requests)
        scenario = Scenario(FleetShape(workers, KV_BLOCKS, BLOCK_SIZE), seed=seed)
        run = simulate(trace, policy, scenario, numbered)
        ttft, programs = run.ttft_ms, run.program_ms / 1e3
        p50, p99 = np.percentile(programs, (50, 99)).tolist()
        found.append(
            (
                float(ttft.mean()),
                float(np.percentile(ttft, 99)),
                run.mean_itl_ms,
                float(programs.mean()),
                p50,
                p99,
                run.reuse,
            )
        )
    return Figures(*np.mean(found, axis=0).tolist())


def rows(args: argparse.Namespace) -> Iterator[Row]:
    policies = [name for name in LAB_POLICIES if not args.policies or name in args.policies]
    for workers in args.workers:
        sample, _ = workload(args.seeds[0], 1.0, args.requests)
        capacity = capacity_per_s(sample, workers)
        yield alone(f"agents.w{workers}.capacity", capacity, "programs/s")
        for load in args.loads:
            name = f"agents.w{workers}.l{load:g}"
            print(f"\n{workers} workers, load {load:g}: {load * capacity:.4f} programs/s")
            print(f"{'policy':20}" + "".join(f"{one:>15}" for one in FIGURES), flush=True)
            found = {}
            for policy in policies:
                found[policy] = one = figures(policy, workers, load * capacity, args)
                cells = "".join(f"{getattr(one, figure):15.3f}" for figure in FIGURES)
                print(f"{policy:20}{cells}", flush=True)
                for figure in FIGURES:
                    yield alone(f"{name}.{policy}.{figure}", getattr(one, figure), UNITS[figure])
            if OURS in found:
                yield from verdict(name, found)


def verdict(name: str, found: dict[str, Figures]) -> Iterator[Row]:
    """The default against the policy whose mean TTFT is the lowest other, of those that a router
    serves by and of those of replays; and its programs against the peer's."""
    ours = found[OURS]
    for what, rivals in (("other", POLICIES), ("of_replays", LAB_POLICIES.keys() - POLICIES)):
        named = [one for one in found if one in rivals and one not in (OURS, *ASIDE)]
        if not named:
            continue
        rival = min(named, key=lambda one: found[one].ttft_ms)
        print(f"best {what} by mean TTFT: {rival}")
        for figure in ("ttft_ms", "ttft_p99_ms", "itl_ms", "program_s"):
            a, b = getattr(ours, figure), getattr(found[rival], figure)
            yield Row(f"{name}.best_{what}.{figure}", a, b, b / a, UNITS[figure])
            print(f"  {figure:12} {a:10.2f} against {b:10.2f}: {100 * (a / b - 1):+.1f} %")
    if PEER in found:
        a, b = ours.program_s, found[PEER].program_s
        yield Row(f"{name}.peer.program_s", a, b, b / a, "s")
        print(f"  programs end {b / a:.2f} times sooner than with {PEER}", flush=True)


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workers", type=int, nargs="+", default=WORKERS)
    parser.add_argument("--loads", type=float, nargs="+", default=LOADS)
    parser.add_argument("--seeds", type=int, nargs="+", default=SEEDS)
    parser.add_argument("--policies", nargs="+", default=(), help="default: all")
    parser.add_argument("--requests", type=int, default=REQUESTS)
    parser.add_argument("--keep", action="store_true", help="write the file")
    args = parser.parse_args(argv)
    found = list(rows(args))
    if args.keep:
        settings = {name: value for name, value in vars(args).items() if name != "keep"}
        write(RESULTS, found, machine(), versions(""), settings)
        print(f"written: {RESULTS}")


if __name__ == "__main__":
    main()
