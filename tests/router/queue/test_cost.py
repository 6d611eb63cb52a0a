"""What an input costs must not grow with how many wait: calls are counted, no clock is read."""

import sys
from collections.abc import Callable

import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.messages.inputs import StepReport
from tests.router.worlds import MS, S, World, request

FEW, MANY = 300, 30_000


def calls(do: Callable[[], object]) -> int:
    """Calls of Python and C functions that it makes; a loop over all that wait would show."""
    n = 0

    def count(frame: object, event: str, arg: object) -> None:
        nonlocal n
        n += event in {"call", "c_call"}

    sys.setprofile(count)
    try:
        do()
    finally:
        sys.setprofile(None)
    return n


def crowded(n: int) -> World:
    """One worker with all its seats taken, and so many requests behind it."""
    world = World("a", seats=4, queue=1, max_waiting=1 << 20, max_in_flight=1 << 20)
    world.checks = False  # they walk over all of them
    specs = (request(f"r{k}", k, n=50, policy="radix", tenant=f"t{k % 5}") for k in range(n + 4))
    for spec in specs:
        world.submit(spec)
    return world


def costs(n: int) -> dict[str, int]:
    world = crowded(n)
    core, now_ns = world.core, world.now_ns + MS
    more = request("more", 5, policy="radix")
    step = StepReport(5.0, 0, 1, ())
    return {
        "submit": calls(lambda: core.submit(more, now_ns)),
        "step": calls(lambda: core.step(WorkerId("a"), step, now_ns)),
        "abort": calls(lambda: core.abort("r200", now_ns)),
        "tick": calls(lambda: core.tick(now_ns)),
        "a worker falls free": calls(lambda: core.abort(world.on("a")[0], now_ns + S)),
    }


@pytest.fixture(scope="module")
def few() -> dict[str, int]:
    costs(FEW)  # what is made at first use is made
    return costs(FEW)


@pytest.fixture(scope="module")
def many() -> dict[str, int]:
    return costs(MANY)


@pytest.mark.parametrize("what", ["submit", "step", "abort", "tick", "a worker falls free"])
def test_an_input_costs_the_same_with_a_hundred_times_as_many_waiting(few, many, what):
    assert few[what] > 5
    assert many[what] <= 1.5 * few[what] + 50, (few, many)
