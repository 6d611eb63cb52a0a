"""What an input costs must not grow with how many wait: calls are counted, no clock is read."""

import sys
from collections.abc import Callable
from typing import Any

import pytest

from radixroute.radix.ids import Keys, WorkerId
from radixroute.radix.index.contract import Overlaps
from radixroute.router.messages.inputs import StepReport
from tests.router.worlds import MS, S, World, request

FEW, MANY = 300, 30_000
# With adapters: of those that wait for one, most have a worker that is busy, some one that is away.
ADAPTERS = {"a": ("X", "Y"), "gone": ("Z",)}
FEW_ADAPTED = 600


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


def crowded_by_adapters(n: int) -> World:
    """The same, and whoever waits names an adapter: one of the worker's, or one that was served."""
    world = World("a", "gone", seats=4, queue=1, adapters=ADAPTERS, max_waiting=1 << 20,
                  max_in_flight=1 << 20)  # fmt: skip
    world.checks = False
    world.kill("gone")
    for k in range(n + 4):
        named: dict[str, Any] = {
            "policy": "radix",
            "tenant": f"t{k % 5}",
            "lora": "XYZ"[k % 3 if k > 9 else 0],
        }
        world.do(world.core.submit(request(f"r{k}", k, n=50, **named), 0, is_last=k < 10))
    return world


def costs(n: int, world_of: Callable[[int], World] = crowded, **named: Any) -> dict[str, int]:
    world = world_of(n)
    core, now_ns = world.core, world.now_ns + MS
    more = request("more", 5, policy="radix", **named)
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


def test_while_nobody_is_free_no_prompt_is_looked_up_however_few_wait(monkeypatch):
    world = World("a", seats=2, queue=1)
    for k in range(5):
        world.submit(request(f"r{k}", k, n=50, policy="radix"))
    asked, overlaps = list[Keys](), world.index.overlaps

    def noted(keys: Keys) -> Overlaps:
        asked.append(keys)
        return overlaps(keys)

    monkeypatch.setattr(world.index, "overlaps", noted)
    core, now_ns = world.core, world.now_ns + MS
    assert core.n_waiting == 4
    core.step(WorkerId("a"), StepReport(5.0, 0, 1, ()), now_ns)
    core.tick(now_ns)
    assert not asked
    assert core.abort(world.on("a")[0], now_ns + S)
    assert asked


INPUTS = ["submit", "step", "abort", "tick", "a worker falls free"]


@pytest.mark.parametrize("what", INPUTS)
def test_an_input_costs_the_same_with_a_hundred_times_as_many_waiting(few, many, what):
    assert few[what] > 5
    assert many[what] <= 1.5 * few[what] + 50, (few, many)


@pytest.fixture(scope="module")
def few_adapted() -> dict[str, int]:
    costs(FEW_ADAPTED, crowded_by_adapters, lora="Z")
    return costs(FEW_ADAPTED, crowded_by_adapters, lora="Z")


@pytest.fixture(
    scope="module", params=[MANY, pytest.param(100_000, marks=pytest.mark.deep)], ids="{:,}".format
)
def many_adapted(request: pytest.FixtureRequest) -> dict[str, int]:
    return costs(request.param, crowded_by_adapters, lora="Z")


@pytest.mark.parametrize("what", INPUTS)
def test_with_adapters_too(few_adapted, many_adapted, what):
    few, many = few_adapted, many_adapted
    assert few[what] > 5
    assert many[what] <= 1.5 * few[what] + 50, (few, many)
