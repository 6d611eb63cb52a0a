"""The demo's runs, one after another, and a cluster that is stopped on every way out.

Owns the order of runs and the cluster's life. What a run does is the business of `run`.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Protocol

from radixroute.demo.plan import ChatTokenizer, DemoPlan
from radixroute.demo.run import PolicyBench, PolicyRun
from radixroute.demo.screen import Screen
from radixroute.demo.signals import run_interruptible, uninterrupted
from radixroute.demo.workload.chats import Workload


class Cluster(Protocol):
    """What the demo needs of a cluster. `restart` empties every cache."""

    @property
    def router_address(self) -> str: ...

    def start(self, progress: Callable[[str], None] | None = None) -> None: ...

    def restart(
        self, *, policy: str | None = None, progress: Callable[[str], None] | None = None
    ) -> None: ...

    def stop(self) -> None: ...


@dataclass(frozen=True, slots=True)
class Demo:
    """One comparison: which workloads, on what, and each policy once or there and back."""

    workloads: tuple[Workload, ...]
    plan: DemoPlan
    tokenizer: ChatTokenizer
    there_and_back: bool

    @property
    def order(self) -> tuple[tuple[Workload, str], ...]:
        """A B C for each workload, or A B C C B A: a machine that drifts then favours nobody."""
        policies = self.plan.policies
        rounds = policies + policies[::-1] if self.there_and_back else policies
        return tuple((workload, policy) for workload in self.workloads for policy in rounds)


def run_demo(demo: Demo, cluster: Cluster, screen: Screen) -> list[PolicyRun]:
    """Every run of `demo`, one at a time, each on fresh caches; the cluster has just started
    under the first policy.
    """
    runs: list[PolicyRun] = []
    for number, (workload, policy) in enumerate(demo.order, start=1):
        screen.say(f"run {number}/{len(demo.order)}: {policy}, seed {workload.seed}")
        if number > 1:
            cluster.restart(policy=policy, progress=screen.say)
        bench = PolicyBench(cluster.router_address, workload, demo.plan, demo.tokenizer)
        run = run_interruptible(bench.run(policy, screen))
        runs.append(run)
        screen.say(
            f"{policy}: hit rate {run.hit_rate:.3f}, TTFT mean {run.ttft.mean:,.0f} ms, "
            f"{run.outcome.elapsed_s:.0f} s"
        )
        for fault in run.faults:
            screen.say(f"FAULT {policy}: {fault}")
    return runs


@contextmanager
def started(cluster: Cluster, screen: Screen) -> Iterator[Cluster]:
    """`cluster` while it runs; it is stopped on every way out, and a second Ctrl-C waits."""
    try:
        cluster.start(screen.say)
        yield cluster
    finally:
        with uninterrupted():
            screen.say("shutting down")
            cluster.stop()
            screen.say("everything is down")
