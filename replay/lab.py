"""Lab: one trace replayed under many settings, every policy, fleet size and speed wanted.

Pure but for the time runs take. Whoever calls prints progress and writes files.
"""

import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace

from radixroute import __version__
from radixroute.radix.tree.eviction import LRU
from radixroute.replay.analysis import bounds, misses
from radixroute.replay.analysis.detectors import detect
from radixroute.replay.changes import FleetChange, check_lives
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import FleetShape, blocks_for, engine_block_size
from radixroute.replay.fleet.timing import POLYNOMIAL, Timing
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.report.settings import settings_in_words
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Conditions, Routers, Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.traces.session_ends import SessionEnds
from radixroute.replay.traces.trace import Prefixes, Trace, prefixes
from radixroute.router.policy.registry import POLICIES, lab_policy_named

ALL = "all"
# Not in `all`: the default without its main idea, for who wants to see what that is worth.
_ASIDE = ("radix_at_once",)


@dataclass(frozen=True, slots=True)
class LabSettings:
    """What to run. Every combination of policies, workers and speeds."""

    policies: tuple[str, ...] = (ALL,)
    workers: tuple[int, ...] = (8,)
    speeds: tuple[float, ...] = (1.0,)
    seed: int = 0
    kv_blocks: int | None = None  # of each worker; None: as many as hold `kv_tokens`
    block_size: int | None = None  # tokens; None: what suits the trace (`engine_block_size`)
    kv_tokens: int = 1 << 20  # of each worker
    max_num_batched_tokens: int = 8192
    max_num_seqs: int = 256
    timing: Timing = POLYNOMIAL
    slowness: tuple[float, ...] = ()  # of the first workers
    eviction_policy: str = LRU  # of all workers
    conditions: Conditions = field(default_factory=Conditions)
    changes: tuple[FleetChange, ...] = ()  # of each fleet, in mid-run
    routers: Routers = field(default_factory=Routers)  # over each fleet
    session_ends: float = 0.0  # share of sessions whose last request says that it is

    def __post_init__(self) -> None:
        for name in ("policies", "workers", "speeds"):
            if not getattr(self, name):
                raise InvalidShape(f"{name}: name at least one")
        SessionEnds(self.session_ends)  # refuses what is no share
        if any(speed <= 0 for speed in self.speeds):
            raise InvalidShape("a speed is a number above 0")
        for workers in self.workers:
            check_lives(self.changes, workers)
        for name in self.policies:
            if name != ALL:
                lab_policy_named(name)

    @property
    def chosen(self) -> tuple[str, ...]:
        """Policies by name, each once."""
        named = [p for p in POLICIES if p not in _ASIDE] if ALL in self.policies else []
        return tuple(dict.fromkeys([*named, *(p for p in self.policies if p != ALL)]))

    @property
    def digest(self) -> str:
        """16 hexadecimal digits over every setting."""
        text = json.dumps({**asdict(self), "policies": self.chosen}, sort_keys=True)
        return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()

    def sized_for(self, trace: Trace) -> "LabSettings":
        """With the sizes that were left to the trace; both say of the memory the same."""
        block_size, kv_blocks = self.sizes(trace)
        kv_tokens = kv_blocks * block_size
        return replace(self, block_size=block_size, kv_blocks=kv_blocks, kv_tokens=kv_tokens)

    def sizes(self, trace: Trace) -> tuple[int, int]:
        """(tokens of an engine block, blocks of each worker)."""
        block_size, kv_blocks = self.block_size, self.kv_blocks
        if block_size is None:
            block_size = engine_block_size(trace.block_size)
        if kv_blocks is None:
            kv_blocks = blocks_for(self.kv_tokens, block_size)
        return block_size, kv_blocks

    def scenarios(self, trace: Trace) -> Iterator[tuple[str, Scenario]]:
        """Each run, in the order of the report."""
        block_size, kv_blocks = self.sizes(trace)
        for workers in self.workers:
            shape = FleetShape(
                workers=workers,
                kv_blocks=kv_blocks,
                block_size=block_size,
                max_num_batched_tokens=self.max_num_batched_tokens,
                max_num_seqs=self.max_num_seqs,
                slowness=self.slowness,
                eviction_policy=self.eviction_policy,
            )
            for speed in self.speeds:
                for policy in self.chosen:
                    yield (
                        policy,
                        Scenario(
                            shape,
                            self.timing,
                            speed,
                            self.seed,
                            self.conditions,
                            keeps_events=True,
                            changes=self.changes,
                            routers=self.routers,
                            session_ends=SessionEnds(self.session_ends),
                        ),
                    )


def _tell_nobody(done: int, total: int, what: str) -> None:
    """For callers that show no progress."""


def replay_all(
    trace: Trace,
    settings: LabSettings,
    tell: Callable[[int, int, str], None] = _tell_nobody,
    command: str = "",
) -> Report:
    """`tell`: runs done, runs in all, what comes next. Raises `InvalidShape`."""
    if not len(trace):
        raise InvalidShape("the trace has no requests")
    settings = settings.sized_for(trace)
    block_size, kv_blocks = settings.sizes(trace)
    numbered = prefixes(trace, block_size)
    known = {
        workers: bounds.bounds(trace, numbered, workers, kv_blocks) for workers in settings.workers
    }
    todo = list(settings.scenarios(trace))
    runs = []
    for done, (policy, scenario) in enumerate(todo):
        workers = scenario.shape.workers
        tell(done, len(todo), f"{policy}, {workers} workers, {scenario.speed:g}x")
        result = simulate(trace, policy, scenario, numbered)
        reachable = known[workers]["pooled_belady"].fraction
        runs.append(_reported(result, numbered, reachable))
    tell(len(todo), len(todo), "done")
    return Report(
        runs=tuple(runs),
        bounds={
            name if len(known) == 1 or name == "infinite" else f"{name} ({workers} workers)": (
                bound.fraction
            )
            for workers, of_fleet in known.items()
            for name, bound in of_fleet.items()
        },
        definitions={**bounds.DEFINITIONS, **misses.DEFINITIONS},
        command=command,
        config_hash=settings.digest,
        settings=settings_in_words(asdict(settings), __version__),
        original=trace,
    )


def _reported(result: RunResult, numbered: Prefixes, reachable: float) -> ReportedRun:
    found = misses.attribute_misses(result, numbered)
    return ReportedRun(
        result=replace(result, events=None),  # they are large, and nobody asks again
        request_losses={name: found.of(name) for name in misses.CLASSES},
        reachable=reachable,
        findings=detect.detect(result, numbered),
    )
