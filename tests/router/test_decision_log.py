"""The decision log: bounded by count and by bytes, read by ids and by what they begin with."""

import gc
import tracemalloc

import numpy as np
import pytest

from radixroute.radix.ids import WorkerId
from radixroute.router.core.logs.decision_log import DecisionLog, LoggedRequest
from radixroute.router.errors import UnknownRequest
from radixroute.router.policy import columns_layout as at
from radixroute.router.policy.decision import Decision
from radixroute.router.policy.view import View

NAMES = tuple(WorkerId(f"worker-{n}") for n in range(1024))


def decision(workers: int = 4, attempt: int = 1) -> Decision:
    view = View(
        prompt_tokens=100,
        block_size=16,
        worker_ids=NAMES[:workers],
        overlap_blocks=np.zeros(workers, np.int32),
        expected_blocks=np.zeros(workers, np.int32),
        table=np.zeros((at.N_ROWS, workers)),
        draw=1 << 63,
    )
    return Decision(attempt, "radix", view, 0, "")


def entry(request_id: str) -> LoggedRequest:
    return LoggedRequest(request_id, "radix", 100, 16)


def filled(log: DecisionLog, n: int, workers: int) -> DecisionLog:
    for i in range(n):
        log.open(entry(f"{i:032x}"))
        log.decided(f"{i:032x}", decision(workers))
        log.check()
    return log


def test_a_small_fleet_is_bounded_by_count():
    assert len(filled(DecisionLog(100, 64 << 20), 300, 4)) == 100


def test_a_large_fleet_is_bounded_by_bytes_and_keeps_the_newest():
    log = filled(DecisionLog(4096, 4 << 20), 100, 1024)
    assert 20 < len(log) < 40
    assert log.n_bytes <= 4 << 20
    assert log.get(f"{99:032x}").decisions
    with pytest.raises(UnknownRequest):
        log.get(f"{0:032x}")


def test_the_newest_stays_whatever_its_size():
    log = filled(DecisionLog(10, 1000), 3, 1024)
    assert len(log) == 1
    assert log.get(f"{2:032x}").decisions


def test_many_attempts_of_one_request_count():
    log = filled(DecisionLog(10, 100_000), 10, 4)
    for attempt in range(200):
        log.decided(f"{9:032x}", decision(attempt=attempt))
        log.check()
    assert len(log) == 1


@pytest.mark.parametrize("workers", [2, 1024])
def test_the_estimate_is_what_the_log_really_takes(workers):
    gc.collect()
    tracemalloc.start()
    try:
        log = filled(DecisionLog(4096, 1 << 30), 50, workers)
        gc.collect()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.7 < log.n_bytes / taken < 1.5


def test_an_id_may_be_cut_as_long_as_it_is_the_only_one():
    log = DecisionLog(10, 1 << 20)
    for name in ("9f2c51d0", "9f2c77aa", "ab000000"):
        log.open(entry(name))
    assert log.get("9f2c5").request_id == "9f2c51d0"
    assert log.get("ab00").request_id == "ab000000"
    with pytest.raises(UnknownRequest, match="2 requests have ids that begin so"):
        log.get("9f2c")
    for unknown in ("9f2d", "ab0", ""):
        with pytest.raises(UnknownRequest, match=r"no decision is kept .* last 3 requests"):
            log.get(unknown)
