"""One prefix for many users: what it saves on one worker, and what placement saves on two.

One worker: blocks that the engine's own prefix cache uses. Two workers: the real router core, in
virtual time, over the replay's simulated engines.
"""

import numpy as np

from radixroute.kv.lab.bench import Bench
from radixroute.kv.lab.records import Kind, Plot, Result, Series, Table
from radixroute.kv.lab.subjects import BLOCK_SIZE
from radixroute.kv.lab.words import share, size, times
from radixroute.radix.keys.scope import Scope
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.prefixes import SystemPrompts
from radixroute.replay.synth.workloads import synthesize
from radixroute.replay.traces.trace import Trace
from radixroute.worker.engine.cache import PrefixCache

NAME, TITLE = "sharing", "One prefix for many users"
QUESTION = "What do users with the same prefix save, and why does it matter which worker they get?"
USERS = (1, 2, 4, 8, 16, 32)
PREFIX, OWN = 1024, 64  # tokens
POLICIES = ("random", "round_robin", "least_loaded", "radix")
# A worker has room for about half of the prefixes: where a request goes decides what stays.
PROMPTS, SYSTEM = 8, 2_000  # system prompts, tokens of each
WORKER_TOKENS = 12_000


def run(bench: Bench) -> Result:
    """Blocks on one worker, then policies on two."""
    shared = [(n, used_tokens(n)) for n in USERS]
    alone = [(n, n * (PREFIX + OWN)) for n in USERS]
    bench.tell("one worker")
    shape = SystemPrompts(
        requests=bench.effort.requests, prompts=PROMPTS, system_tokens=SYSTEM, sigma=0.0,
        requests_per_s=8.0, answer_tokens=50,
    )  # fmt: skip
    trace = synthesize("system_prompts", 3, shape)
    runs = {}
    for policy in POLICIES:
        runs[policy] = _placed(trace, policy)
        bench.tell(f"two workers, {policy}")
    token_bytes = bench.subjects[-1].token_bytes
    plots = (
        Plot("sharing-memory", f"KV cache of users with {PREFIX:,} tokens in common", "users",
             f"MiB ({bench.subjects[-1].name})",
             (Series.of("each its own", [(n, t * token_bytes / 2**20) for n, t in alone],
                        is_formula=True),
              Series.of("prefix shared", [(n, t * token_bytes / 2**20) for n, t in shared]))),
        Plot("sharing-placement", "Prompt tokens from cache on two workers", "policy", "%",
             (Series.bars("%", [100 * one.reuse for one in runs.values()]),), Kind.BARS,
             categories=POLICIES),
        Plot("sharing-ttft", "Mean time to first token on two workers", "policy", "ms (simulated)",
             (Series.bars("ms", [float(one.ttft_ms.mean()) for one in runs.values()]),), Kind.BARS,
             categories=POLICIES),
    )  # fmt: skip
    facts = {f"{name}.reuse": one.reuse for name, one in runs.items()}
    facts |= {f"users_{n}.tokens": float(t) for n, t in shared}
    text = _text(shared, alone, runs, token_bytes)
    return Result(NAME, TITLE, QUESTION, text, plots, (_table(runs),), facts)


def used_tokens(n_users: int) -> int:
    """Room that the engine's prefix cache takes for so many users at once, in tokens."""
    cache = PrefixCache(1 << 14, BLOCK_SIZE, Scope("lab", BLOCK_SIZE))
    prefix = np.arange(1, PREFIX + 1, dtype=np.uint32)
    leases = []
    for user in range(n_users):
        own = np.arange(OWN, dtype=np.uint32) + 10_000 + 1_000 * user
        ids = np.concatenate((prefix, own))
        lease = cache.acquire(ids)
        cache.grow(lease, len(ids))
        cache.publish(lease, ids, len(ids))
        cache.settle(lease)
        leases.append(lease)
    return cache.n_used * BLOCK_SIZE


def _placed(trace: Trace, policy: str) -> RunResult:
    shape = FleetShape(workers=2, kv_blocks=WORKER_TOKENS // BLOCK_SIZE, block_size=BLOCK_SIZE)
    return simulate(trace, policy, Scenario(shape))


def _table(runs: dict[str, RunResult]) -> Table:
    rows = [
        (
            name,
            share(one.reuse),
            f"{int((one.trace.input_tokens - one.cached_tokens).sum()):,}",
            f"{float(one.ttft_ms.mean()):.0f} ms",
            f"{float(np.quantile(one.ttft_ms, 0.99)):.0f} ms",
        )
        for name, one in runs.items()
    ]
    columns = ("policy", "from cache", "prompt tokens computed", "TTFT, mean", "p99")
    title = f"{PROMPTS} system prompts of {SYSTEM:,} tokens on two workers of {WORKER_TOKENS:,}"
    return Table(title, columns, tuple(rows))


def _text(
    shared: list[tuple[int, int]],
    alone: list[tuple[int, int]],
    runs: dict[str, RunResult],
    token_bytes: int,
) -> str:
    n, used = shared[-1]
    own = alone[-1][1]
    radix = runs["radix"]
    others = {name: one for name, one in runs.items() if name != "radix"}
    best = max(others, key=lambda name: others[name].reuse)
    other = others[best]
    saved = float(other.ttft_ms.mean()) / float(radix.ttft_ms.mean())
    verdict = (
        f"and the first token came {times(saved)} sooner in the mean"
        if saved > 1.1
        else f"while the first token came after {float(radix.ttft_ms.mean()):.0f} ms in the mean, "
        f"against {float(other.ttft_ms.mean()):.0f} ms"
    )
    return (
        f"{n} users whose prompts begin with the same {PREFIX:,} tokens need room for {own:,} "
        f"tokens if each has its own ({size(own * token_bytes)}), and for {used:,} if the prefix "
        f"is kept once ({size(used * token_bytes)}): {share(1 - used / own)} less, and the prefix "
        "is computed once. A prefix tree makes that automatic: a prompt walks down the tree "
        "block by block, and what it finds there it need not compute.\n\nWith two workers there "
        "are two trees, and each remembers what it was sent. When neither has room for all "
        f"prefixes, requests that go anywhere push out each other's: {best} found "
        f"{share(other.reuse)} of the prompt tokens in cache. The router that knows what each "
        f"worker holds sent like to like: {share(radix.reuse)}, {verdict}. The router and its "
        "index are the real ones, the engines are simulated with a GPU's times."
    )
