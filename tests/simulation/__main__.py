"""`python -m tests.simulation`: one seed, or many.

One (`--seed N`) is run twice, must come to the same trace, and says what happened. Of many
(`--seeds N --from M`) the first that breaks an invariant is shrunk and printed; then the exit
status is 1.
"""

import argparse
import sys
import time

from tests.simulation.drawing.by_seed import make_plan
from tests.simulation.seeds import Tally, run_seeds
from tests.simulation.shrink import failure_of, report, shrink
from tests.simulation.world import run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seed", type=int, help="this one")
    parser.add_argument("--seeds", type=int, default=300, help="so many")
    parser.add_argument("--from", type=int, default=0, dest="first", help="beginning here")
    parser.add_argument("--whole", action="store_true", help="do not shrink a failing schedule")
    options = parser.parse_args()
    if options.seed is not None:
        return one(options.seed, shrinks=not options.whole)
    return many(options.first, options.seeds, shrinks=not options.whole)


def one(seed: int, *, shrinks: bool) -> int:
    failure = failure_of(make_plan(seed))
    if failure is not None:
        print(report(shrink(failure) if shrinks else failure))
        return 1
    outcome, again = run(make_plan(seed)), run(make_plan(seed))
    print(f"seed {seed} ({make_plan(seed).mode}) holds: trace {outcome.trace}")
    print(f"{outcome.n_events} events; {dict(sorted(outcome.tally.items()))}")
    print(f"known faults met: {dict(outcome.known)}")
    if again.trace != outcome.trace:
        print(f"and is not deterministic: once more gives {again.trace}")
        return 1
    return 0


def many(first: int, n: int, *, shrinks: bool) -> int:
    started = time.perf_counter()
    tally = run_seeds(range(first, first + n), progress=sys.stderr.isatty())
    print(_line(tally, first, time.perf_counter() - started))
    if tally.failure is None:
        return 0
    print(report(shrink(tally.failure) if shrinks else tally.failure))
    return 1


def _line(tally: Tally, first: int, took_s: float) -> str:
    return (
        f"seeds {first} to {first + tally.seeds - 1}: {tally.seeds / took_s:.1f} seeds/s,"
        f" {tally.events} events; known faults met: {dict(tally.known.most_common())}"
    )


if __name__ == "__main__":
    sys.exit(main())
