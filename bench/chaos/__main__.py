"""`make chaos`: real workers with a tiny random model, streams, and processes killed under them.

Every stream is compared token by token with its greedy answer without faults. Exits with 1 when one
is lost, hangs, or is not what it should be. Writes bench/results/chaos.json.
"""

import argparse
import os
import sys
import tempfile
from pathlib import Path

from bench.chaos.run import ChaosSettings, run
from bench.rows import write
from radixroute.demo.machine import machine, versions
from tests.e2e.tiny_model import write_tiny_model

RESULTS = Path("bench/results/chaos.json")


def main() -> int:
    defaults = ChaosSettings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=defaults.requests, help="at least")
    parser.add_argument("--kills", type=int, default=defaults.kills)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    asked = parser.parse_args()
    settings = ChaosSettings(requests=asked.requests, kills=asked.kills, seed=asked.seed)
    with tempfile.TemporaryDirectory() as folder:
        model = write_tiny_model(Path(folder, "tiny"))
        outcome = run(model, settings, lambda line: print(line, flush=True))
    for row in outcome.rows:
        bar = "" if row.bar is None else f"bar {row.bar:g} {'met' if row.is_met else 'MISSED'}"
        print(f"{row.name:16} {row.ours:10,.1f} {row.unit:8} {bar}")
    load_average = os.getloadavg()[0]
    more = {**outcome.record, "seed": settings.seed, "load_average": load_average}
    write(RESULTS, outcome.rows, machine(), versions("tiny random Llama"), more)
    print(f"written to {RESULTS}")
    return 0 if outcome.tally.is_sound else 1


if __name__ == "__main__":
    sys.exit(main())
