"""Digests of what every policy decides on every synthetic workload, and the file they are kept in.

python -m tests.replay.golden_decisions     writes the file anew
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.workloads import KINDS, synthesize
from radixroute.router.policy.registry import POLICIES

FILE = Path(__file__).resolve().parents[1] / "data" / "decisions.json"
SEED = 7
# Of kinds whose prompts are long: fewer requests, on workers with more room.
SHAPES = {"agents": Agents(requests=300)}
LONG_BLOCKS = 8192


def kept() -> dict[str, dict[str, str]]:
    """By kind of workload and policy."""
    read: dict[str, dict[str, str]] = json.loads(FILE.read_text())
    return read


def decisions(kind: str) -> dict[str, str]:
    """Of each policy. Four workers whose caches are too small, much load, some seed."""
    blocks = LONG_BLOCKS if kind in SHAPES else 2048
    trace, scenario = (
        synthesize(kind, SEED, SHAPES.get(kind)),
        Scenario(FleetShape(4, blocks, 64), speed=8.0, seed=1),
    )
    return {policy: digest(simulate(trace, policy, scenario)) for policy in POLICIES}


def digest(run: RunResult) -> str:
    """Who served each request, when it was decided, when it began and ended, what was cached."""
    state = hashlib.blake2b(digest_size=8)
    for column in (
        run.worker,
        run.decided_ns,
        run.first_ns,
        run.finish_ns,
        run.cached_tokens,
        run.predicted_tokens,
    ):
        state.update(np.ascontiguousarray(column, dtype="<i8").tobytes())
    return state.hexdigest()


if __name__ == "__main__":
    FILE.write_text(json.dumps({kind: decisions(kind) for kind in KINDS}, indent=1) + "\n")
