"""What the workers' eviction policies, and clients that tell the end of their sessions, are worth
beside LRU, routed by `radix`.

Parts of `bench.replay`. `ratio` of a row of times: LRU's / the policy's, so above 1 is better. The
synthetic workloads are of seeds that no constant was chosen on, on fleets that hold a quarter of
their prompts' blocks.
"""

from collections.abc import Iterator, Mapping
from math import exp, log
from statistics import mean

from bench.rows import Row, alone
from radixroute.radix.tree.eviction import EVICTION_POLICIES, LRU
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.workloads import KINDS, synthesize
from radixroute.replay.traces.session_ends import SessionEnds
from radixroute.replay.traces.trace import Trace, prefixes

# By name: a policy, and who tells its worker that a session is over.
VARIANTS: Mapping[str, tuple[str, SessionEnds]] = {
    **{name: (name, SessionEnds()) for name in EVICTION_POLICIES if name != LRU},
    "told": (LRU, SessionEnds(told=1.0)),
    "told_half": (LRU, SessionEnds(told=0.5)),
    "told_wrong": (LRU, SessionEnds(told=1.0, wrong=0.1)),  # as often by who comes back
    "told_cost": ("cost", SessionEnds(told=1.0)),
}
SYNTH_SEEDS = (11, 12, 13)  # held out: constants were chosen on 1 and 2
SYNTH_WORKERS, SYNTH_PART = 4, 4
_BLOCK_SIZE = 64


def on_trace(
    trace: Trace, name: str, settings: tuple[tuple[int, float], ...], kv_blocks: int
) -> Iterator[Row]:
    """Each variant at each of the settings, (workers, speed)."""
    numbered = prefixes(trace, _BLOCK_SIZE)
    ratios: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
    for workers, speed in settings:
        shape = FleetShape(workers, kv_blocks, _BLOCK_SIZE)
        lru = simulate(trace, "radix", Scenario(shape, speed=speed), numbered)
        for variant, (policy, ends) in VARIANTS.items():
            shape = FleetShape(workers, kv_blocks, _BLOCK_SIZE, eviction_policy=policy)
            scenario = Scenario(shape, speed=speed, session_ends=ends)
            run = simulate(trace, "radix", scenario, numbered)
            a, b = _mean_ms(run), _mean_ms(lru)
            ratios[variant].append(b / a)
            row = f"eviction.{variant}.{name}.w{workers}.x{speed:g}"
            yield Row(f"{row}.mean_ms", a, b, b / a, "ms")
            yield Row(f"{row}.reuse", run.reuse, lru.reuse, run.reuse / lru.reuse, "of tokens")
    for variant, found in ratios.items():
        value = exp(mean(map(log, found)))
        yield alone(f"eviction.{variant}.{name}.geometric_mean", value, "times lower mean TTFT")


def on_synth() -> Iterator[Row]:
    """Each variant over each kind of synthetic workload: the mean over seeds, and the worst."""
    for kind in KINDS:
        ratios: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for seed in SYNTH_SEEDS:
            trace = synthesize(kind, seed)
            numbered = prefixes(trace, _BLOCK_SIZE)
            most = trace.input_tokens + trace.output_tokens - 1
            least = int((-(-most // _BLOCK_SIZE)).max())
            kv_blocks = max(least, numbered.n_nodes // SYNTH_PART // SYNTH_WORKERS)
            shape = FleetShape(SYNTH_WORKERS, kv_blocks, _BLOCK_SIZE)
            lru = _mean_ms(simulate(trace, "radix", Scenario(shape), numbered))
            for variant, (policy, ends) in VARIANTS.items():
                shape = FleetShape(SYNTH_WORKERS, kv_blocks, _BLOCK_SIZE, eviction_policy=policy)
                run = simulate(trace, "radix", Scenario(shape, session_ends=ends), numbered)
                ratios[variant].append(lru / _mean_ms(run))
        for variant, found in ratios.items():
            row = f"eviction.{variant}.synth.{kind}"
            value = exp(mean(map(log, found)))
            yield alone(f"{row}.geometric_mean", value, "times lower mean TTFT")
            yield alone(f"{row}.worst", min(found), "times lower mean TTFT")


def _mean_ms(run: RunResult) -> float:
    return float(run.ttft_ms.mean())
