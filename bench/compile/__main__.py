"""CPU seconds of a cold compile and of a warm load of all kernels: `make bench-compile`.

Processes of their own, each cold one with an empty cache folder. `--against FOLDER` takes another
checkout in turn with this one (the ratio is FOLDER's time / ours). CPU and not wall time: a process
compiles on one core. What limits a cold compile is numba's own work in Python, typing and lowering
some two hundred small functions; LLVM's is the smaller part.
"""

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.rows import Row, alone, timed, write
from radixroute.demo.machine import machine, versions

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "bench" / "results" / "compile.json"
# Rooms of this checkout, and where the kernels lay before rooms had folders.
_LOAD = """
import importlib
from radixroute.events.warm import warm
warm()
for room in ("router.policy", "replay"):
    try:
        module = importlib.import_module(f"radixroute.{room}.warm")
    except ImportError:
        continue
    module.warm()
for name in ("router.plan_kernels", "replay.fleet_kernels", "replay.trace_kernels",
             "replay.bounds_kernels", "replay.blame_kernels"):
    try:
        importlib.import_module("radixroute." + name)
    except ImportError:
        continue
"""


def cpu_s(checkout: Path, cache: Path) -> float:
    """Of one process that loads every kernel through this cache folder."""
    env = {**os.environ, "PYTHONPATH": str(checkout), "NUMBA_CACHE_DIR": str(cache)}
    before = os.times()
    subprocess.run([sys.executable, "-c", _LOAD], check=True, env=env, cwd=checkout)
    after = os.times()
    spent = after.children_user + after.children_system
    return spent - before.children_user - before.children_system


def measure(checkouts: Sequence[Path], rounds: int) -> dict[str, list[list[float]]]:
    """Seconds by kind, for each checkout one a round; in turns."""
    taken: dict[str, list[list[float]]] = {k: [[] for _ in checkouts] for k in ("cold", "warm")}
    for number in range(rounds):
        for place, checkout in enumerate(checkouts):
            with tempfile.TemporaryDirectory() as folder:
                for kind in ("cold", "warm"):
                    taken[kind][place].append(cpu_s(checkout, Path(folder)))
                    print(f"{number} {checkout.name} {kind}: {taken[kind][place][-1]:.1f} s")
    return taken


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.compile", description=__doc__)
    parser.add_argument("--against", type=Path, help="another checkout, measured in turn")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    checkouts = [ROOT, *([options.against.resolve()] if options.against else [])]
    rows = list[Row]()
    for kind, (ours, *others) in measure(checkouts, options.rounds).items():
        name = f"compile.{kind}"
        if others:
            row = timed(name, ours, others[0])
            rows.append(Row(name, row.ours, row.peer, row.ratio, "CPU s"))
        else:
            rows.append(alone(name, sorted(ours)[len(ours) // 2], "CPU s"))
        print(rows[-1])
    write(RESULTS, rows, machine(), versions(""), {"rounds": options.rounds})
    return 0


if __name__ == "__main__":
    sys.exit(main())
