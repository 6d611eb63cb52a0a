"""Each detector has a workload and a fault that set it off; with the default policy none speaks."""

import json
from dataclasses import replace
from functools import cache

import numpy as np
import pytest

from radixroute.replay.analysis.detectors.detect import DEFINITIONS, detect
from radixroute.replay.analysis.detectors.occupancy import Occupancy, Spans, merged, time_since
from radixroute.replay.analysis.detectors.placement import follow_prefixes
from radixroute.replay.findings import TITLES, named
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.lab import LabSettings, replay_all
from radixroute.replay.report.found import finding_lines
from radixroute.replay.report.report import results_json
from radixroute.replay.results import LIVE, CacheSums
from radixroute.replay.scenario import Scenario
from radixroute.replay.simulate import Simulation
from radixroute.replay.synth.draws import Draws
from radixroute.replay.synth.prompts import Piece, Pieces
from radixroute.replay.traces.trace import prefixes
from radixroute.router.policy import registry
from radixroute.router.policy.baselines.least_loaded import load_scores
from radixroute.router.policy.formula.at_once import AtOnce
from radixroute.router.policy.view import Choice
from tests.replay.runs import BLOCK, make_trace, result

WORKERS = 4
LARGE, MIDDLE, SMALL = 8192, 1024, 512  # KV blocks of a worker


def unshared(long=2_000, per_s=6.0, answer=50, n=600):
    """Three in ten prompts are short; nothing is shared."""
    pieces, draws = Pieces(), Draws.of("unshared", 7, 0.4)
    for arrival in draws.arrivals_ns(n, per_s).tolist():
        median = 40 if draws.happens(0.3) else long
        pieces.add(arrival, (pieces.text(draws.tokens(median)),), answer)
    return pieces.trace("unshared")


def talks(step=1_200, per_s=0.5, answer=120, n=500):
    """Sessions of large steps, far apart: who holds one is nearly always free."""
    pieces, draws = Pieces(), Draws.of("talks", 7, 0.4)
    for start in draws.arrivals_ns(n, per_s).tolist():
        if len(pieces) >= n:
            break
        wait, before = start, None
        prompt: tuple[Piece, ...] = ()
        for _ in range(6):
            prompt = (*prompt, pieces.text(draws.tokens(step)))
            said = pieces.text(draws.tokens(answer))
            before = pieces.add(wait, prompt, said.tokens, after=before)
            prompt, wait = (*prompt, said), draws.wait_ns(4.0)
    return pieces.trace("talks")


def answers():
    """Long answers that take much of a worker's memory, few at a time."""
    return unshared(long=1_500, per_s=1.0, answer=500, n=200)


def _among(n):
    """Only the first so many workers are ever asked."""

    def pick(view):
        return Choice(int(view.draw % n), "A fault.", load_scores(view))

    return lambda parts: AtOnce(parts, pick)


class Lying(Simulation):
    """Worker 0 says that its prompts take three times what they take."""

    def _report(self, reports):
        super()._report(
            [
                replace(one, step_ns=one.step_ns * 3)
                if one.worker == 0 and one.prefill_tokens
                else one
                for one in reports
            ]
        )


FAULTS = {
    "honest": Simulation,
    "lying": Lying,
}
# Of each kind: workload, blocks of a worker, the policy that is at fault, whose reports.
CASES = {
    "starved": (unshared, LARGE, "two", "honest"),
    "wrong_speed": (unshared, LARGE, "radix", "lying"),
    "uneven_caches": (unshared, SMALL, "two", "honest"),
    "wasted_copies": (talks, LARGE, "round_robin", "honest"),
    "moved_for_nothing": (talks, LARGE, "round_robin", "honest"),
    "slowed_by_company": (answers, MIDDLE, "one", "honest"),
    "waited_beside_idle": (unshared, LARGE, "one", "honest"),
}


@pytest.fixture(autouse=True)
def faulty(monkeypatch):
    monkeypatch.setitem(registry.LAB_POLICIES, "one", _among(1))
    monkeypatch.setitem(registry.LAB_POLICIES, "two", _among(2))


@cache
def run_of(make, kv_blocks, policy, fault="honest"):
    trace = make()
    numbered = prefixes(trace, 64)
    scenario = Scenario(FleetShape(WORKERS, kv_blocks, 64))
    return FAULTS[fault](trace, policy, scenario, numbered).run(), numbered


def kinds(run, numbered):
    return {one.kind for one in detect(run, numbered)}


def test_every_detector_has_a_case():
    assert set(CASES) == set(TITLES) == set(DEFINITIONS)


@pytest.mark.parametrize("kind", CASES)
def test_a_fault_is_found(kind):
    run, numbered = run_of(*CASES[kind])
    found = {one.kind: one for one in detect(run, numbered)}
    assert kind in found
    assert found[kind].title == TITLES[kind]
    assert any(digit.isdigit() for digit in found[kind].sentence), "it says how much"


@pytest.mark.parametrize(
    ("make", "kv_blocks"), sorted({case[:2] for case in CASES.values()}, key=str)
)
def test_nothing_is_found_of_the_default_policy(make, kv_blocks):
    run, numbered = run_of(make, kv_blocks, "radix")
    assert detect(run, numbered) == ()


@pytest.mark.parametrize(
    "kind", ["starved", "wasted_copies", "moved_for_nothing", "slowed_by_company"]
)
def test_a_live_run_is_judged_by_what_is_known_of_it(kind):
    """It tells no admissions, evictions or speeds."""
    run, numbered = run_of(*CASES[kind])
    live = replace(
        run,
        source=LIVE,
        admitted_ns=np.full(len(run.trace), -1),
        learned_ms=None,
        caches=CacheSums(run.caches.total),
    )
    assert kind in kinds(live, numbered)
    assert not kinds(live, numbered) & {"wrong_speed", "uneven_caches"}


def test_a_worker_that_is_slower_is_not_left_out():
    trace = unshared()
    numbered = prefixes(trace, 64)
    shape = FleetShape(WORKERS, LARGE, 64, slowness=(3.0,))
    run = Simulation(trace, "radix", Scenario(shape), numbered).run()
    asked = np.bincount(run.worker, minlength=WORKERS)
    assert asked[0] < 0.5 * asked.mean(), "or this shows nothing"
    assert kinds(run, numbered) == set()


def test_a_worker_that_came_late_or_is_gone_has_no_share_of_what_was_before():
    """As if worker 0 had not been there for the first two thirds, or were not there at the end."""
    run, numbered = run_of(unshared, LARGE, "round_robin")
    assert "starved" not in kinds(run, numbered)
    n = len(run.trace)
    early, mine = np.arange(n) < 2 * n // 3, run.worker == 0
    late = replace(run, worker=np.where(early & mine, 1 + np.arange(n) % 3, run.worker))
    assert "starved" not in kinds(late, numbered)
    kept = replace(run, worker=np.where(mine & (np.arange(n) > n // 10), 1, run.worker))
    assert "starved" in kinds(kept, numbered)
    gone = np.where(np.arange(WORKERS) == 0, np.nan, run.learned_ms)
    assert "starved" not in kinds(replace(kept, learned_ms=gone), numbered)


def test_nothing_is_said_of_a_run_that_was_never_answered():
    run, numbered = run_of(unshared, LARGE, "radix")
    silent = replace(run, first_ns=np.full(len(run.trace), -1))
    assert detect(silent, numbered) == ()


def test_a_report_says_what_was_found():
    """In full of the best and the default, by title of the rest; every sentence in the JSON."""
    settings = LabSettings(("radix", "round_robin", "two"), (WORKERS,), kv_blocks=LARGE)
    report = replay_all(talks(n=300), settings)
    found = {run.result.policy: run.findings for run in report.runs}
    assert found["radix"] == ()
    titles = {one.title for one in found["round_robin"]}
    assert titles >= {TITLES["wasted_copies"], TITLES["moved_for_nothing"]}
    text = "\n".join(finding_lines(report))
    assert text.startswith("Found of others: round_robin (copies nobody asked for, moved")
    record = json.loads(results_json(report))
    sentences = [one["sentence"] for one in record["runs"][1]["findings"]]
    assert sentences == [one.sentence for one in found["round_robin"]]
    alone = replace(report, runs=report.runs[1:2])
    assert next(finding_lines(alone)) == (
        f"round_robin, copies nobody asked for: {found['round_robin'][0].sentence}."
    )


def _placed(workers, decided, cached, total=1 << 20):
    """Three blocks of one prefix and one of its own each; first tokens come 10 ns later."""
    prompts = [([0, 1, 2, 10 + i], 4 * BLOCK) for i in range(len(workers))]
    trace = make_trace(prompts, arrival_ns=decided)
    run = result(
        trace,
        worker=workers,
        decided_ns=decided,
        first_ns=[ns + 10 for ns in decided],
        finish_ns=[ns + 20 for ns in decided],
        cached_tokens=[blocks * BLOCK for blocks in cached],
        caches=CacheSums(np.full(2, total)),
    )
    placed = follow_prefixes(run, prefixes(trace, BLOCK), Occupancy.of(run))
    return [(tokens // BLOCK).tolist() for tokens in (placed.held, placed.moved, placed.wasted)]


def test_a_prompt_is_moved_for_nothing_only_from_a_worker_that_could_have_begun():
    held, moved, wasted = _placed([0, 1], [0, 50], [0, 0])
    assert (held, moved, wasted) == ([0, 3], [0, 3], [0, 3])
    # Worker 0 has another prompt of it pending.
    held, moved, wasted = _placed([0, 0, 1], [0, 48, 50], [0, 3, 0])
    assert (held, moved, wasted) == ([0, 3, 3], [0, 0, 0], [0, 0, 3])
    # What is still being computed is held by nobody.
    assert _placed([0, 1], [0, 5], [0, 0]) == [[0, 0]] * 3


def test_a_copy_that_is_found_there_later_is_not_wasted():
    assert _placed([0, 1, 1], [0, 50, 100], [0, 0, 3])[2] == [0, 0, 0]
    assert _placed([0, 1, 0], [0, 50, 100], [0, 0, 3])[2] == [0, 3, 0], "it was found elsewhere"


def test_what_a_worker_may_have_evicted_is_not_held():
    """It has stored half of its cache since: four blocks of eight."""
    workers, decided = [0, 0, 1], [0, 50, 100]
    prompts = [([0, 1, 2, 3], 4 * BLOCK), ([4, 5, 6, 7], 4 * BLOCK), ([0, 1, 2, 3], 4 * BLOCK)]
    trace = make_trace(prompts, arrival_ns=decided)
    for total, held in ((9, 3), (8, 0)):
        run = result(
            trace,
            worker=workers,
            decided_ns=decided,
            first_ns=[10, 60, 110],
            finish_ns=[20, 70, 120],
            caches=CacheSums(np.full(2, total)),
        )
        placed = follow_prefixes(run, prefixes(trace, BLOCK), Occupancy.of(run))
        assert placed.held.tolist() == [0, 0, held * BLOCK]


def test_spans_are_merged_and_measured():
    spans = merged(np.array([50, 0, 10, 100]), np.array([60, 20, 30, 110]))
    assert spans.start.tolist() == [0, 50, 100]
    assert spans.end.tolist() == [30, 60, 110]
    start, end = np.array([0, 25, 31, 55, 200]), np.array([200, 55, 49, 105, 300])
    assert spans.within(start, end).tolist() == [50.0, 10.0, 0.0, 10.0, 0.0]
    long = Spans(np.array([0, 100_000_000]), np.array([30_000_000, 130_000_000]))
    moments = long.first_moment(np.array([10_000_000, 27_000_000, 200_000_000]))
    assert moments.tolist() == [10_000_000, 100_000_000, np.iinfo(np.int64).max]


def test_time_is_summed_over_moments():
    assert time_since(np.array([5, 1]), np.array([0, 1, 4, 10])).tolist() == [0, 0, 3, 14]


def test_workers_are_named_as_long_as_they_are_few():
    assert named((3,)) == "worker 3"
    assert named((1, 2, 5)) == "workers 1, 2 and 5"
    assert named(tuple(range(9))) == "9 workers (0, 1, 2, 3, ...)"
