"""`make bench-policy`: is the default policy the best one, and on what is it not?

Every policy on a fixed grid of workloads, fleets and loads; the best of each setting in paired
draws beside ours, mean times to first token with 95 % limits (`judgement`). Loads are shares of
what the fleet could take with one pooled cache. Parts may be chosen; runs are kept in
.cache/bench-policy by the code that made them. Writes bench/results/policy.json when it is run
whole.

With `--tune` nothing is judged against rivals: constants of the default are varied, chosen on one
half of the workloads and judged on the other, both ways (`tuning`).
"""

import argparse
import sys
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from bench.policy.grid import DRAW_SPEEDS, FORMS, LOADS, OURS, WORKERS, Outcome, Setting, Task
from bench.policy.judgement import Bar, Judged, Judgement, bars, judge
from bench.policy.limits import Difference
from bench.policy.runs import KEPT, Runs
from bench.policy.table import bar_lines, lines
from bench.policy.tuning import lines as tuning_lines
from bench.policy.tuning import tune
from bench.policy.variants import all_policies, variants
from bench.policy.workloads import GROUPS, WORKLOADS
from bench.rows import Row, write
from radixroute.demo.machine import machine, versions

RESULTS = Path("bench/results/policy.json")


def main() -> None:
    args = _arguments()
    settings = [
        Setting(workload, workers, load)
        for workload in args.workloads
        for workers in args.workers
        for load in args.loads
    ]
    runs = Runs(args.processes, None if args.fresh else KEPT)
    made = _Maker(runs)
    started = time.perf_counter()
    if args.tune:
        _tune(args, settings, made)
        return
    others = [policy for policy in args.policies if policy not in {args.ours, *FORMS}]
    judgement = judge(args.ours, others, settings, args.best, args.draws, made)
    wall_s = time.perf_counter() - started
    judged_bars = bars(judgement, GROUPS["bars"])
    for line in (*lines(judgement), "", *bar_lines(judged_bars)):
        print(line)
    cpu_s = sum(one.cpu_s for one in made.seen.values())
    print(
        f"{len(made.seen)} runs of {cpu_s / 60:.0f} CPU minutes, {runs.n_made} of them made now"
        f" by {args.processes} processes in {wall_s / 60:.1f} minutes"
    )
    if args.is_whole or args.keep:
        _write(judgement, judged_bars, len(made.seen), cpu_s)


def _tune(args: argparse.Namespace, settings: Sequence[Setting], made: "_Maker") -> None:
    for line in tuning_lines(tune(args.tune, settings, args.draws, made)):
        print(line)


class _Maker:
    """Makes runs, says how far they are, and remembers what they gave."""

    def __init__(self, runs: Runs) -> None:
        self._runs = runs
        self.seen: dict[Task, Outcome] = {}
        self._started = time.perf_counter()

    def __call__(self, tasks: Sequence[Task]) -> Mapping[Task, Outcome]:
        self._started = time.perf_counter()
        found = self._runs.of(tasks, self._tell)
        self.seen.update(found)
        return found

    def _tell(self, done: int, total: int) -> None:
        left_s = (time.perf_counter() - self._started) / done * (total - done)
        if sys.stderr.isatty() or done % 50 == 0 or done == total:
            print(f"{done} of {total} runs, {left_s / 60:.1f} minutes left", file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    groups = ", ".join(GROUPS)
    parser.add_argument(
        "--workloads", default="all", help=f"with commas; or of {groups}; there are"
        f" {', '.join(WORKLOADS)}",
    )  # fmt: skip
    parser.add_argument("--workers", default=",".join(map(str, WORKERS)))
    parser.add_argument("--loads", default=",".join(map(str, LOADS)), help="of the capacity")
    parser.add_argument("--policies", default="all", help="rivals, with commas")
    parser.add_argument("--ours", default=OURS, help="the policy that is judged")
    parser.add_argument("--draws", type=int, default=5, help=f"1 to {len(DRAW_SPEEDS)}")
    parser.add_argument("--best", type=int, default=4, help="others that meet every draw")
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument(
        "--tune", action="append", metavar="NAME=v1,v2,...", help="a constant of the default"
    )
    parser.add_argument("--fresh", action="store_true", help="uses and keeps no runs of before")
    parser.add_argument("--keep", action="store_true", help="writes the file though not whole")
    args = parser.parse_args()
    if not 1 <= args.draws <= len(DRAW_SPEEDS):
        parser.error(f"--draws: 1 to {len(DRAW_SPEEDS)}")
    args.is_whole = all(
        getattr(args, name) == parser.get_default(name)
        for name in ("workloads", "workers", "loads", "policies", "ours", "draws", "best")
    )
    args.workloads = _names(parser, "--workloads", args.workloads, GROUPS, WORKLOADS)
    known = all_policies()
    args.policies = _names(parser, "--policies", args.policies, {"all": known}, known)
    try:
        args.tune = variants(args.tune or ())
    except ValueError as error:
        parser.error(f"--tune: {error}")
    args.workers = [int(one) for one in args.workers.split(",")]
    args.loads = [float(one) for one in args.loads.split(",")]
    if args.ours not in known:
        parser.error(f"--ours: one of {', '.join(known)}")
    return args


def _names(
    parser: argparse.ArgumentParser,
    option: str,
    text: str,
    groups: Mapping[str, Sequence[str]],
    known: Collection[str],
) -> list[str]:
    """Each once, in the order given; groups stand for all of theirs."""
    found: dict[str, None] = {}
    for one in text.split(","):
        if one not in groups and one not in known:
            parser.error(f"{option}: {one!r} is none of {', '.join([*groups, *known])}")
        found.update(dict.fromkeys(groups.get(one, (one,))))
    return list(found)


def _write(judgement: Judgement, judged: Sequence[Bar], n_runs: int, cpu_s: float) -> None:
    rows = [
        Row(
            f"{one.setting.name}.mean_ms",
            one.rival.ours_ms,
            one.rival.other_ms,
            one.rival.other_ms / one.rival.ours_ms,
            "ms",
        )
        for one in judgement.settings
    ]
    more = {
        "ours": judgement.ours,
        "best_single": judgement.single,
        "bars": [
            {"name": bar.name, "per_cent": bar.value, "at_most": bar.limit, "is_met": bar.is_met}
            for bar in judged
        ],
        "runs": {"made_or_kept": n_runs, "cpu_minutes": cpu_s / 60},
        "settings": [_record(one) for one in judgement.settings],
    }
    write(RESULTS, rows, machine(), versions(""), more)
    print(f"written: {RESULTS}")


def _record(one: Judged) -> dict[str, object]:
    """One setting, in per cent."""
    rival, draw = one.rival, one.draws[0]
    return {
        "name": one.setting.name,
        "half": WORKLOADS[one.setting.workload].half,
        "capacity": round(draw.capacity, 4),
        "speed": round(draw.speed, 4),
        "best_other": rival.other,
        "draws": rival.ttft.n,
        "mean": [round(v, 3) for v in (rival.ttft.per_cent, *_limits(rival.ttft))],
        "p99": [round(v, 3) for v in (rival.p99.per_cent, *_limits(rival.p99))],
        "itl": [round(v, 3) for v in (rival.itl.per_cent, *_limits(rival.itl))],
        "single": round(one.single.ttft.per_cent, 3),
        "preset": None if one.preset is None else round(one.preset.ttft.per_cent, 3),
        "reuse": [round(each.reuse, 4) for each in one.draws],
        "session_ms": [round(each.session_ms, 1) for each in one.draws],
        "findings": [each.findings for each in one.draws],
        "first_draw_ms": {name: round(ms, 2) for name, ms in one.first_ms.items()},
    }


def _limits(of: Difference) -> tuple[float, float]:
    return of.low_per_cent, of.high_per_cent


if __name__ == "__main__":
    main()
