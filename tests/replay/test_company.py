"""Company: sessions that answer at length are not crowded on one worker while others idle."""

import numpy as np
import pytest

from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.results import RunResult
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import simulate
from radixroute.replay.synth.prompts import Piece, Pieces
from radixroute.replay.traces.trace import Trace
from radixroute.router.policy import registry
from radixroute.router.policy.radix.radix_policy import RadixPolicy
from radixroute.router.policy.radix.weights import WEIGHTS

WORKERS = 6
SECOND_NS = 1_000_000_000


def sessions() -> Trace:
    """One trunk that all share; answers take far longer than what is left to compute."""
    pieces = Pieces()
    trunk = pieces.text(16_000)
    for session in range(24):
        prompt: tuple[Piece, ...] = (trunk,)
        before, wait_ns = None, session * SECOND_NS
        for _ in range(6):
            prompt = (*prompt, pieces.text(1_000))
            answer = pieces.text(600)
            before = pieces.add(wait_ns, prompt, answer.tokens, after=before)
            prompt, wait_ns = (*prompt, answer), SECOND_NS
    return pieces.trace("sessions")


def replay(policy: str) -> tuple[RunResult, float]:
    run = simulate(sessions(), policy, Scenario(FleetShape(WORKERS, 16384, 64)))
    given = np.bincount(run.worker, minlength=WORKERS)
    return run, float(given.max() / given.mean())


def test_sessions_spread_because_their_answers_would_slow_each_other(monkeypatch):
    blind = WEIGHTS._replace(answers_to_come=0.0)
    monkeypatch.setitem(
        registry.LAB_POLICIES, "blind", lambda parts: RadixPolicy(parts, weights=blind)
    )
    run, most = replay("radix")
    run_blind, most_blind = replay("blind")
    assert most < 1.7 < most_blind
    assert run.mean_itl_ms < 0.9 * run_blind.mean_itl_ms
    assert run.ttft_ms.mean() < 1.05 * run_blind.ttft_ms.mean()
    assert run.reuse == pytest.approx(run_blind.reuse, abs=0.05)
