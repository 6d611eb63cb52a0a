"""How policies are judged: paired draws, t limits, rivals, bars, halves, what is kept of runs."""

import json
from math import exp, inf, log
from typing import Any, NamedTuple

import pytest

from bench.policy import grid, workloads
from bench.policy import runs as kept_runs
from bench.policy import variants as known_variants
from bench.policy.grid import DRAW_SPEEDS, FORMS, OURS, Outcome, Setting, Task, outcome
from bench.policy.judgement import bars, judge, overall
from bench.policy.limits import difference, difference_of
from bench.policy.runs import Runs, key_of
from bench.policy.table import bar_lines, lines
from bench.policy.tuning import lines as tuning_lines
from bench.policy.tuning import tune
from bench.policy.workloads import GROUPS, WORKLOADS, A, B
from radixroute.replay.synth.workloads import KINDS
from radixroute.router.policy.registry import POLICIES


class Weights(NamedTuple):
    wait: float = 4.0
    copy: float = 1.0


WEIGHTS = Weights()


def figures(mean_ms, p99_ms=100.0, itl_ms=10.0):
    return Outcome(mean_ms, mean_ms, p99_ms, itl_ms, 0.0, 0.5, 1.0, 2.0, 0.1, "")


def test_limits_are_student_s():
    """Of 1, 2, 3, 4, 5: mean 3, deviation 1.5811, t of 4 degrees 2.776."""
    found = difference_of([1.0, 2.0, 3.0, 4.0, 5.0])
    assert found.mean == 3.0
    assert found.high - found.mean == pytest.approx(2.776 * 1.5811388 / 5**0.5, rel=1e-6)
    assert found.mean - found.low == pytest.approx(found.high - found.mean)


def test_a_difference_is_of_pairs_and_in_per_cent():
    found = difference([99.0, 198.0], [100.0, 200.0])
    assert found.per_cent == pytest.approx(-1.0)
    assert found.high_per_cent == pytest.approx(-1.0), "what varies alike is no difference"
    with pytest.raises(ValueError, match="zip"):
        difference([1.0], [1.0, 2.0])


def test_one_draw_has_no_limits():
    assert difference([1.0], [2.0]).high == inf


def test_settings_together_are_surer_than_each():
    """Of n alike and independent ones the half width is that of one / sqrt(n)."""
    judgement = judge("ours", ["rival"], SETTINGS, 1, 5, made_by(noise=0.02))
    compared = [one.rival for one in judgement.settings]
    widths = [one.ttft.high - one.ttft.mean for one in compared]
    both = overall(compared)
    assert both.high - both.mean == pytest.approx(widths[0] / len(compared) ** 0.5)


SETTINGS = [Setting("chats", 4, load) for load in (0.3, 0.6, 0.9)]


def made_by(noise=0.0, asked=None, **mean_ms):
    """Runs of a policy have this mean; draws differ by `noise`, ours the other way than others."""
    means = {"ours": 99.0, "rival": 100.0, **mean_ms}

    def made(tasks):
        if asked is not None:
            asked.extend(tasks)
        return {
            task: figures(
                means[task.policy]
                * exp(noise * (task.draw - 2) * (1 if task.policy == "ours" else -1))
            )
            for task in tasks
        }

    return made


def test_everybody_runs_once_and_the_best_in_every_draw():
    asked: list[Task] = []
    others = ["rival", "close", "far", "worst"]
    made = made_by(asked=asked, close=101.0, far=150.0, worst=900.0)
    judgement = judge("ours", others, SETTINGS, 2, 5, made)
    assert len(asked) == len(set(asked))
    draws = {p: {t.draw for t in asked if t.policy == p} for p in ("ours", *others)}
    assert draws["ours"] == draws["rival"] == draws["close"] == set(range(5))
    assert draws["far"] == draws["worst"] == {0}
    assert {one.rival.other for one in judgement.settings} == {"rival"}
    assert all(one.rival.ttft.n == 5 for one in judgement.settings)
    assert judgement.settings[0].rival.ttft.per_cent == pytest.approx(-1.0)


def test_the_best_of_all_draws_is_the_rival_not_the_best_of_the_first():
    def made(tasks):
        late = {("b", draw): 80.0 for draw in range(1, 5)}
        means = {"ours": 100.0, "a": 90.0, "b": 95.0}
        return {t: figures(late.get((t.policy, t.draw), means[t.policy])) for t in tasks}

    judgement = judge("ours", ["a", "b"], SETTINGS[:1], 2, 5, made)
    assert judgement.settings[0].rival.other == "b"
    assert judgement.single == "a", "the single one is chosen by everybody's first draw"


def test_the_single_best_meets_every_draw_even_where_others_are_better():
    def made(tasks):
        def mean(task):
            if task.policy == "steady":
                return 100.0
            wild = {0.3: 90.0, 0.6: 95.0, 0.9: 500.0}
            return wild[task.setting.load] if task.policy == "wild" else 98.0

        return {task: figures(mean(task)) for task in tasks}

    judgement = judge("ours", ["steady", "wild"], SETTINGS, 1, 3, made)
    assert judgement.single == "steady"
    assert [one.rival.other for one in judgement.settings] == ["wild", "wild", "steady"]
    assert [one.single.ttft.n for one in judgement.settings] == [3, 3, 3]


def test_bars_are_met_and_missed_by_what_they_say():
    met = {bar.name: bar.is_met for bar in bars(judged(ours=98.0), ["chats"])}
    assert met["mean TTFT, upper limit, at the worst setting"]
    assert met["mean TTFT, geometric mean over settings"]
    wide = {bar.name: bar.is_met for bar in bars(judged(ours=98.0, noise=0.05), ["chats"])}
    assert not wide["mean TTFT, upper limit, at the worst setting"], "nobody knows"
    worse = {bar.name: bar.is_met for bar in bars(judged(ours=100.2), ["chats"])}
    assert worse["mean TTFT, upper limit, at the worst setting"]
    assert not worse["mean TTFT, geometric mean over settings"]
    assert bars(judged(ours=98.0), ["conversation"]) == []


def judged(noise=0.0, **mean_ms):
    return judge("ours", ["rival"], SETTINGS, 1, 5, made_by(noise, **mean_ms))


def test_the_table_has_every_setting_and_says_what_is_missed():
    judgement = judged(ours=104.0)
    text = "\n".join(lines(judgement))
    assert text.count("chats") == len(SETTINGS) + 1
    assert text.count(" TTFT") >= len(SETTINGS)
    assert "+4.00" in text
    verdicts = list(bar_lines(bars(judgement, ["chats"])))
    assert verdicts[0].startswith("MISSED")
    assert verdicts[1].startswith("met")


def test_halves_part_the_workloads_and_no_prompts_are_in_both():
    assert set(GROUPS["A"]) | set(GROUPS["B"]) == set(WORKLOADS)
    assert not set(GROUPS["A"]) & set(GROUPS["B"])
    assert min(len(GROUPS["A"]), len(GROUPS["B"])) * 3 >= len(WORKLOADS)
    assert WORKLOADS["conversation"].half == WORKLOADS["conversation_spread"].half
    assert set(KINDS) <= set(GROUPS["bars"]), "every kind is judged"
    assert {one.half for one in WORKLOADS.values()} == {A, B}


@pytest.fixture
def small(monkeypatch):
    """Synthetic workloads of a few requests."""
    grid.forget()
    monkeypatch.setattr(workloads, "MOST_REQUESTS", 100)
    yield
    grid.forget()


@pytest.mark.parametrize("name", [*GROUPS["exposing"], *KINDS])
def test_a_workload_is_another_each_draw_and_the_same_again(name, small):
    make = WORKLOADS[name].make
    assert make(0).digest == make(0).digest != make(1).digest
    assert 20 <= len(make(0)) <= 100


def test_a_run_is_kept_and_made_once(tmp_path, monkeypatch):
    made = []

    class Here:
        """A pool whose work is done in this process."""

        def __init__(self, *_):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *_):
            pass

        def map(self, function, tasks):
            made.extend(tasks)
            return [figures(50.0 + task.draw) for task in tasks]

    monkeypatch.setattr(kept_runs, "ProcessPoolExecutor", Here)
    path = tmp_path / "deep" / "runs.jsonl"
    tasks = [Task(SETTINGS[0], draw, "radix") for draw in (0, 1)]
    first = Runs(2, path).of(tasks, lambda *_: None)
    again = Runs(2, path)
    assert again.of(tasks, lambda *_: None) == first
    assert again.n_made == 0
    assert len(made) == 2
    assert first[tasks[1]].mean_ms == 51.0
    assert len(path.read_text().splitlines()) == 2
    assert json.loads(path.read_text().splitlines()[0])[0].startswith("chats.w4.l0.3 0 radix ")


def test_a_run_is_known_by_the_code_that_decides_it():
    names = {policy: {path.name for path in kept_runs._sources(policy)} for policy in POLICIES}
    assert "cost_kernels.py" in names[OURS]
    assert "lmetric.py" not in names[OURS]
    for policy in set(POLICIES) - set(FORMS):
        assert "cost_kernels.py" not in names[policy], "a change of ours leaves rivals' runs"
        assert {"simulate.py", "router_core.py", "scheduler.py"} <= names[policy]
    assert {"lmetric.py"} == names["lmetric"] - names[OURS]
    assert {"round_robin.py", "least_loaded.py"} <= names["round_robin"]
    assert key_of(Task(SETTINGS[0], 0, OURS)) != key_of(Task(SETTINGS[0], 1, OURS))


def test_draws_come_at_other_speeds():
    assert DRAW_SPEEDS[0] == 1.0
    assert len(set(DRAW_SPEEDS)) == len(DRAW_SPEEDS) >= 5
    assert all(abs(log(speed)) <= 0.0051 for speed in DRAW_SPEEDS)


def test_an_outcome_is_of_its_setting_and_draw(small):
    """Twice the workers, twice the speed for the same load; and the run is the same again."""
    four = outcome(Task(Setting("few_shot", 4, 0.3), 0, "round_robin"))
    eight = outcome(Task(Setting("few_shot", 8, 0.3), 1, "round_robin"))
    assert four.speed == pytest.approx(0.3 * four.capacity)
    assert eight.speed == pytest.approx(0.3 * eight.capacity * DRAW_SPEEDS[1])
    assert eight.capacity > 1.2 * four.capacity
    assert four.mean_ms <= four.p99_ms
    assert four._replace(cpu_s=0.0) == outcome(
        Task(Setting("few_shot", 4, 0.3), 0, "round_robin")
    )._replace(cpu_s=0.0)


class Tunable:
    """A default with constants, as the lab sees one."""

    def __init__(self, parts, *, weights=WEIGHTS):
        self.weights = weights


@pytest.fixture
def tunable(monkeypatch):
    monkeypatch.setattr(known_variants, "RadixPolicy", Tunable)
    tables: list[dict[str, Any]] = [{"radix": Tunable}, {"radix": Tunable, "lab": Tunable}]
    monkeypatch.setattr(known_variants, "_tables", lambda: tables)
    return tables


def test_variants_are_every_combination_and_made_as_they_are_named(tunable):
    names = known_variants.variants(["wait=1,2", "copy=0.5"])
    assert names == ["radix:wait=1,copy=0.5", "radix:wait=2,copy=0.5"]
    assert known_variants.variants([]) == []
    for name in (*names, "radix"):
        known_variants.make_known(name)
    assert set(tunable[0]) == {"radix", *names}
    assert set(known_variants.all_policies()) == {"radix", "lab", *names}
    assert tunable[1][names[1]](None).weights == Weights(wait=2.0, copy=0.5)
    assert all(grid.is_ours(name) for name in names), "they are no rivals"


def test_a_constant_that_there_is_not_is_refused_by_the_names_there_are(tunable):
    with pytest.raises(ValueError, match="there are wait, copy"):
        known_variants.variants(["weight=1"])
    with pytest.raises(ValueError, match="NAME=v1"):
        known_variants.variants(["wait"])


HALVES = [Setting("chats", 4, 0.3), Setting("rag", 4, 0.3)]


def test_what_is_chosen_on_one_half_is_judged_on_the_other():
    """`low` is best on A and worst on B: what it is worth is what B says."""
    means = {
        ("rag", "radix:low"): 90.0,
        ("rag", "radix:high"): 95.0,
        ("chats", "radix:low"): 110.0,
        ("chats", "radix:high"): 97.0,
    }
    assert (WORKLOADS["rag"].half, WORKLOADS["chats"].half) == (A, B)

    def made(tasks):
        return {t: figures(means.get((t.setting.workload, t.policy), 100.0)) for t in tasks}

    tried = tune(["radix:low", "radix:high"], HALVES, 2, made)
    text = list(tuning_lines(tried))
    assert "chosen on A: radix:low; on B it is +10.00 %" in text[-2]
    assert "chosen on B: radix:high; on A it is -5.00 %" in text[-1]


def test_where_no_variant_is_better_the_constants_stay():
    tried = tune(["radix:low"], HALVES, 2, lambda tasks: {t: figures(100.0) for t in tasks})
    assert [line.partition(": ")[2] for line in list(tuning_lines(tried))[-2:]] == [
        "the constants as they are"
    ] * 2
