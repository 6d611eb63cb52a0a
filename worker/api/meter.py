"""Meter: sums over the engine's steps and what was refused, as plain numbers; a few additions each.

Owns them; the service calls for each step. Read when somebody asks for the metrics page.
"""

from typing import Final

from radixroute.metrics.distribution import Distribution
from radixroute.worker.engine.engine import EngineStep

STEP_BOUNDS_S: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0),
)


class Meter:
    """Of one worker's life."""

    def __init__(self) -> None:
        self.step_s = Distribution(STEP_BOUNDS_S)
        self.prefill_tokens = self.decode_tokens = 0
        self.queued_tokens = 0  # after the last step
        self.refused = 0

    def step(self, step: EngineStep) -> None:
        if step.step_ms:  # of an engine that is not ours it is not always known
            self.step_s.observe(step.step_ms / 1e3)
        self.prefill_tokens += step.prefill_tokens
        self.decode_tokens += step.decode_tokens
        self.queued_tokens = sum(progress.queued_tokens for progress in step.sessions)

    def refuse(self) -> None:
        """The engine would not take a request."""
        self.refused += 1
