"""No false alarm: real engines and streams, reports and events that cross, and nobody lies."""

import logging
from collections import Counter

import pytest

from tests.audit.fleet import Fleet
from tests.audit.workers import Shape

CALM = Shape()
# Batches lost on their way and at the publisher, failed steps, clients that hang up, deaths.
STORMY = Shape(loss=0.03, drop=0.01, fails=0.02, aborts=0.05, kill_each=150)
# Evictions in almost every step, preemptions, and wires so slow that whole steps pass each other.
TIGHT = Shape(kv_blocks=36, seats=8, event_ms=400.0, session_ms=400.0, loss=0.01, talks=8)
SHAPES = {"calm": CALM, "stormy": STORMY, "tight": TIGHT}
# What a worker that cannot say when it looked is compared by: dispatch to a second after.
SILENT = Shape(kv_blocks=40, loss=0.02, kill_each=200, tells_position=False)


@pytest.fixture(autouse=True)
def _quiet(caplog):
    caplog.set_level(logging.CRITICAL, "radixroute.worker.engine.inference")


def play(seed: int, shape: Shape, n_requests: int) -> Counter[str]:
    """What there was of each; nobody may have lost credit, nor differed."""
    fleet = Fleet(seed, shape)
    fleet.run(n_requests)
    counters = fleet.core.snapshot().counters
    seen = Counter({name: n for name, n in counters.items() if n})
    for name, worker in fleet.workers.items():
        record = fleet.audit(name)
        assert record.has_credit, f"seed {seed}: {name}: {record}"
        assert not record.differing, f"seed {seed}: {name}: {record}"
        seen.update(worker.told)
    seen["preempted"] += sum(w.preempted for w in fleet.workers.values())
    return seen


def judge(seen: Counter[str], least: float = 0.9) -> None:
    """Enough was judged for it to mean something, and the races were there."""
    judged, unjudged = seen["audit_reports_judged"], seen["audit_reports_not_judged"]
    print(f"{judged} judged, {unjudged} not judged; {dict(seen)}")
    assert seen["audit_reports_told_less"] == seen["audit_reports_told_more"] == 0
    assert judged >= least * (judged + unjudged)
    assert seen["hits"] > 0.2 * seen["reports"]


@pytest.mark.parametrize("name", SHAPES)
def test_no_honest_worker_is_suspected(name):
    seen = play(1, SHAPES[name], 300)
    # In a storm a tenth is not judged in the mean: three hundred say that to a few per cent.
    judge(seen, least=0.85 if name == "stormy" else 0.9)
    assert seen["inside"] > 0.2 * seen["reports"], "no report spoke of the middle of a batch"
    if name == "stormy":
        assert min(seen["workers_died"], seen["requests_resumed"], seen["requests_retried"]) > 0
    if name == "tight":
        assert seen["preempted"] > 0


def test_nor_one_that_cannot_say_when_it_looked():
    judge(play(1, SILENT, 200), least=0.8)


@pytest.mark.deep
@pytest.mark.timeout(900)
@pytest.mark.parametrize("name", [*SHAPES, "silent"])
@pytest.mark.parametrize("part", range(10))
def test_a_hundred_thousand_requests_raise_no_alarm(part, name):
    """2,500 requests each, in 40 parts."""
    shape = SILENT if name == "silent" else SHAPES[name]
    judge(play(100 + part, shape, 2500), least=0.8 if name == "silent" else 0.9)
