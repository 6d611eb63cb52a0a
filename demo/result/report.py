"""What the demo writes down: one record for each run, and the numbers drawn from several.

Pure: runs in, plain values out. The keys `runs`, `ceiling`, `workload`, `machine` and `versions`
are read by the README's tables; more keys may come, none may go.
"""

import json
import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import median

import numpy as np

from radixroute.demo.plan import BASELINE, EXPECTED_GAIN, EXPECTED_TTFT, OURS, POOL_SHARES, DemoPlan
from radixroute.demo.run import PolicyRun
from radixroute.demo.workload.chats import Workload


@dataclass(frozen=True, slots=True)
class Spread:
    """A number over several runs: the one in the middle and the worst one."""

    median: float
    worst: float


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy over all its runs. Times in milliseconds."""

    policy: str
    hit_rate: Spread
    ttft_mean: Spread
    ttft_p50: Spread
    ttft_p99: Spread


def summarize(runs: Sequence[PolicyRun]) -> list[Summary]:
    """By policy, in the order first seen. Worst is lowest for rates, highest for times."""
    found = []
    for policy in dict.fromkeys(run.policy for run in runs):
        mine = [run for run in runs if run.policy == policy]
        rates = [run.hit_rate for run in mine]
        found.append(
            Summary(
                policy,
                Spread(median(rates), min(rates)),
                *(
                    Spread(median(times), max(times))
                    for times in (
                        [run.ttft.mean for run in mine],
                        [run.ttft.p50 for run in mine],
                        [run.ttft.p99 for run in mine],
                    )
                ),
            )
        )
    return found


def mean_ceiling(runs: Sequence[PolicyRun]) -> float:
    """Answers differ a little from run to run, and so do the ceilings."""
    return float(np.mean([run.ceiling.hit_rate for run in runs])) if runs else 0.0


def pool_fault(run: PolicyRun) -> str | None:
    """Why the pool does not fit the working set that the run turned out to have, if so."""
    share = run.pool_blocks / max(run.ceiling.distinct_blocks, 1)
    low, high = POOL_SHARES
    if low <= share <= high:
        return None
    return f"a pool is {share:.2f} of the working set, outside {low:.2f} to {high:.2f}"


def faults_of(runs: Sequence[PolicyRun]) -> list[str]:
    """Every reason not to quote these runs."""
    found = []
    for run in runs:
        faults = (*run.faults, pool_fault(run)) if not run.outcome.errors else run.faults
        found += [f"{run.policy}, seed {run.seed}: {fault}" for fault in faults if fault]
    return found


def verdict(runs: Sequence[PolicyRun]) -> str:
    """One sentence computed from the runs, whichever way it comes out."""
    by_policy = {row.policy: row for row in summarize(runs)}
    if BASELINE not in by_policy or OURS not in by_policy:
        return f"No verdict: it needs runs of {BASELINE} and {OURS}."
    ours, base = by_policy[OURS], by_policy[BASELINE]
    gain = ours.hit_rate.median - base.hit_rate.median
    ratio = ours.ttft_mean.median / base.ttft_mean.median
    found = (
        f"{OURS} against {BASELINE}: hit rate {gain:+.3f}, mean TTFT x{ratio:.2f}, "
        f"{ours.hit_rate.median / max(mean_ceiling(runs), 1e-9):.0%} of the ceiling."
    )
    if sum(run.policy == BASELINE for run in runs) == 1:
        # Who meets whom is luck: of six runs of round robin one was 0.07 above their median.
        return f"{found} One run of each; `make bench-demo` repeats them and judges."
    met = "met" if gain >= EXPECTED_GAIN and ratio <= EXPECTED_TTFT else "NOT met"
    expected = f"{EXPECTED_GAIN:+.2f} or more and x{EXPECTED_TTFT:.2f} or less"
    return f"{found} Expected {expected}: {met}."


def run_record(run: PolicyRun) -> dict[str, object]:
    outcome = run.outcome
    return {
        "policy": run.policy,
        "hit_rate": round(run.hit_rate, 4),
        "ttft_ms": {name: round(value, 1) for name, value in asdict(run.ttft).items()},
        "requests_per_worker": run.requests_per_worker,
        "seed": run.seed,
        "ceiling": round(run.ceiling.hit_rate, 4),
        "predicted_rate": round(run.predicted_rate, 4),
        "prompt_tokens": run.hits.prompt_tokens,
        "cached_tokens": run.hits.cached_tokens,
        "recomputed_tokens": run.hits.recomputed_tokens,
        "output_tokens": sum(len(request.token_ids) for request in outcome.requests),
        "working_set_blocks": run.ceiling.distinct_blocks,
        "elapsed_s": round(outcome.elapsed_s, 1),
        "mean_in_flight": round(outcome.mean_in_flight, 2),
        "peak_in_flight": max((request.in_flight for request in outcome.requests), default=0),
        "load_before": run.load_before,
        "errors": len(outcome.errors) + outcome.unsent,
    }


def workload_record(
    workloads: Sequence[Workload], plan: DemoPlan, runs: Sequence[PolicyRun]
) -> dict[str, object]:
    lengths = [request.prompt_tokens for run in runs for request in run.outcome.requests]
    pools = [run.pool_blocks for run in runs]
    return {
        "seeds": [workload.seed for workload in workloads],
        "chats": [len(workload.chats) for workload in workloads],
        "requests": [workload.n_requests for workload in workloads],
        "shape": asdict(workloads[0].shape),
        "plan": asdict(plan),
        "prompt_tokens": {
            "mean": round(float(np.mean(lengths)), 1) if lengths else 0.0,
            "min": min(lengths, default=0),
            "max": max(lengths, default=0),
        },
        "pool_blocks_per_worker": {"min": min(pools, default=0), "max": max(pools, default=0)},
    }


def demo_record(
    workloads: Sequence[Workload],
    plan: DemoPlan,
    runs: Sequence[PolicyRun],
    facts: dict[str, object],
) -> dict[str, object]:
    """`facts` says where it was measured: machine and versions."""
    return {
        "runs": [run_record(run) for run in runs],
        "ceiling": round(mean_ceiling(runs), 4),
        "workload": workload_record(workloads, plan, runs),
        **facts,
        "summary": [asdict(row) for row in summarize(runs)],
        "verdict": verdict(runs),
        "faults": faults_of(runs),
    }


def write_record(path: Path, record: dict[str, object]) -> None:
    """All of it or nothing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_suffix(".json.new")
    draft.write_text(json.dumps(record, indent=1) + "\n")
    os.replace(draft, path)
