"""Hypothesis' machines as test cases, each with its own number of examples."""

from typing import Any

from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine


def played(machine: type[RuleBasedStateMachine], n_examples: int, n_steps: int = 40) -> Any:
    """A test case: the machine is played so often, always the same way."""
    how = settings(
        max_examples=n_examples, stateful_step_count=n_steps, derandomize=True, deadline=None
    )
    return type(machine.__name__, (machine.TestCase,), {"settings": how})
