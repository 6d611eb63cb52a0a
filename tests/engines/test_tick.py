"""Outputs of one step of an engine come one after another and go as one."""

import asyncio

import pytest

from radixroute.worker.companions.tick import MOST_TURNS, Tick
from radixroute.worker.engine.engine import TokenOutput


def output(n):
    return TokenOutput(f"r{n}", 1, "s", 0, (n,))


async def steps_of(n_running, turns):
    """How many outputs each step has; so many come in each turn of the loop."""
    taken: list[int] = []
    tick = Tick(lambda: taken.append(len(tick.take()[0])), lambda: n_running)
    done = asyncio.get_running_loop().create_future()
    left = list(turns)

    def turn():
        if not left:
            done.set_result(None)
            return
        for n in range(left.pop(0)):
            tick.output(output(n))
        asyncio.get_running_loop().call_soon(turn)

    turn()
    await done
    return taken


@pytest.mark.parametrize(
    ("n_running", "turns", "steps"),
    [
        (4, [4, 0, 0], [4]),  # all are there
        (1, [1, 0, 1, 0], [1, 1]),
        (6, [2, 2, 2, 0, 0], [6]),  # they come
        (6, [2, 1, 0, 0, 0], [3]),  # the others have nothing
        (6, [2, 0, 0, 2, 0, 0], [2, 2]),
        (2, [1, 2, 0], [3]),
    ],
)
async def test_a_step_waits_while_more_of_it_comes(n_running, turns, steps):
    assert await steps_of(n_running, turns) == steps


async def test_it_does_not_wait_for_ever():
    steps = await steps_of(10**6, [1] * (2 * MOST_TURNS) + [0] * 3)
    assert max(steps) <= MOST_TURNS + 1
    assert sum(steps) == 2 * MOST_TURNS
