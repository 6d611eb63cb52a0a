"""Several routers over one fleet: what a router makes of blocks that nobody here sent for."""

import numpy as np
import pytest

from radixroute.events.wire.records import LoadReport, SessionLoad
from radixroute.radix.ids import WorkerId
from radixroute.router.workers.columns import WorkerColumns
from radixroute.router.workers.load import Load
from radixroute.router.workers.recent_prefill import RecentPrefill
from tests.router.worlds import MS, World, request

A, B = WorkerId("a"), WorkerId("b")


def shared_world() -> World:
    """Both workers' heartbeats have named another router."""
    world = World("a", "b")
    world.now_ns += 100 * MS
    for worker_id in (A, B):
        sessions = (SessionLoad("me", 0, 0, 0, 0), SessionLoad("other", 0, 0, 0, 0))
        world.do(world.core.heartbeat(worker_id, LoadReport(0.0, 1000, 0, sessions), world.now_ns))
    return world


def others_prompt(n_blocks: int) -> np.ndarray:
    return np.arange(1 << 50, (1 << 50) + n_blocks, dtype=np.uint64)


def load(world: World, worker_id: WorkerId) -> Load:
    return world.core._state.loads.load(worker_id)


def filled(world: World) -> list[float]:
    state = world.core._state
    return [float(state.recent_prefill.now()[0, state.speeds.columns([w])[0]]) for w in (A, B)]


def test_what_others_compute_is_work_and_fills_the_cache():
    world = shared_world()
    world.core.stored(A, others_prompt(20))
    assert load(world, A).queued_tokens == 20 * 16
    assert filled(world) == [320.0, 0.0]
    world.submit(request("r"))
    assert (world.on("a"), world.on("b")) == ([], ["r"])
    world.core.check()


def test_what_this_router_sent_is_not_taken_for_others():
    world = shared_world()
    world.submit(request("r", blocks=8))
    w = "a" if world.on("a") else "b"
    before = load(world, WorkerId(w)), filled(world)
    world.core.stored(WorkerId(w), request("r", blocks=8).keys)
    assert (load(world, WorkerId(w)), filled(world)) == before


def test_a_block_that_an_answer_fills_is_no_prompt():
    world = shared_world()
    world.core.stored(A, others_prompt(1))
    assert load(world, A) == Load()
    assert filled(world) == [0.0, 0.0]


def test_a_router_that_is_alone_takes_nothing_for_others():
    world = World("a", "b")
    for w in "ab":
        world.beat(w)
    assert not world.core.expects_blocks(A)
    world.core.stored(A, others_prompt(20))
    assert load(world, A).queued_tokens == 0
    assert filled(world) == [0.0, 0.0]


@pytest.mark.parametrize("heard_ms", [50, 99])
def test_work_that_the_last_report_knew_of_is_not_counted_again(heard_ms):
    world = shared_world()
    world.core.stored(A, others_prompt(20), heard_ms * MS)
    assert load(world, A).queued_tokens == 0
    assert filled(world) == [320.0, 0.0]


def test_a_small_cache_is_pushed_out_sooner_by_as_many_tokens():
    columns = WorkerColumns()
    for worker_id in (A, B):
        columns.give(worker_id)
    recent = RecentPrefill(columns)
    for worker_id, smallness in ((A, 2.0), (B, 2.0 / 3.0)):
        recent.give(worker_id, 300.0, 1e12, smallness=smallness)
    assert recent.now()[0, : len(columns.given)].tolist() == pytest.approx([600.0, 200.0])
