"""Reports for programs and for the terminal: golden bytes, and numbers worked out by hand."""

import io
import json
import subprocess
import sys
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
from rich.console import Console

from radixroute.replay.errors import InvalidShape
from radixroute.replay.lab import LabSettings
from radixroute.replay.report.figures import (
    in_flight_over_time,
    run_figures,
    share_over_time,
    ttft_distribution,
)
from radixroute.replay.report.report import Report, ReportedRun, requests_jsonl, results_json
from radixroute.replay.report.settings import settings_in_words
from radixroute.replay.report.table import conclusion, setting_names, table
from tests.replay.report_samples import (
    CLASSES,
    ints,
    random_losses,
    random_run,
    tiny_losses,
    tiny_report,
    tiny_run,
    tiny_trace,
)

GOLDEN_RUN = """\
  {
   "eviction_policy": "lru",
   "findings": [],
   "idle_while_waiting_ms": null,
   "itl_ms": {
    "mean": 5.0,
    "p99": 5.0
   },
   "lateness_ms": null,
   "load_max_over_mean": 1.0,
   "loss": {
    "last_token": 4,
    "never_seen": 409,
    "not_chosen": 11
   },
   "of_reachable": 0.8,
   "policy": "radix",
   "program_ms": {
    "mean": null,
    "p50": null,
    "p99": null
   },
   "reuse": 0.576,
   "seed": 7,
   "source": "simulated",
   "speed": 1.0,
   "ttft_ms": {
    "mean": 25.0,
    "p50": 25.0,
    "p90": 37.0,
    "p99": 39.7
   },
   "unanswered": 0,
   "wall_s": 0.5,
   "workers": 2
  }"""

GOLDEN_LINES = (
    '{"index":0,"arrival_ms":0.0,"worker":0,"decided_ms":0.001,"ttft_ms":40.0,"itl_ms":5.0,'
    '"input_tokens":100,"output_tokens":11,"cached_tokens":0,"predicted_tokens":0,'
    '"losses":{"last_token":1,"never_seen":99}}',
    '{"index":1,"arrival_ms":1000.0,"worker":1,"decided_ms":1000.001,"ttft_ms":10.0,'
    '"itl_ms":null,"input_tokens":200,"output_tokens":1,"cached_tokens":96,'
    '"predicted_tokens":96,"losses":{"last_token":1,"never_seen":103}}',
)


def shown(report):
    file = io.StringIO()
    Console(file=file, width=200).print(table(report))
    return file.getvalue()


def test_results_are_the_golden_bytes():
    text = results_json(tiny_report())
    assert GOLDEN_RUN in text
    assert text.endswith(f'"trace_hash": "{tiny_trace().digest}"\n}}\n')
    record = json.loads(text)
    assert record["trace"] == {
        "name": "tiny",
        "requests": 4,
        "block_size": 16,
        "input_tokens": 1000,
        "output_tokens": 38,
        "duration_s": 3.0,
    }
    assert record["bounds"] == {"infinite": 0.75, "pooled_belady": 0.72, "pooled_lru": 0.6}
    assert (record["command"], record["config_hash"]) == ("radixroute replay tiny.jsonl", "00ff")
    assert [run["policy"] for run in record["runs"]] == ["radix", "round_robin"]


def test_requests_are_the_golden_lines():
    lines = requests_jsonl(tiny_report().runs[0]).splitlines()
    assert lines[:2] == list(GOLDEN_LINES)
    assert len(lines) == 4


_IN_ANOTHER_PROCESS = """
import hashlib
from radixroute.replay.report.report import requests_jsonl, results_json
from radixroute.replay.report.page.html import index_html
from tests.replay.test_report import random_report
report = random_report()
for text in (results_json(report), requests_jsonl(report.runs[0]), index_html(report)):
    print(hashlib.sha256(text.encode()).hexdigest())
"""


def random_report():
    runs = [random_run(policy, seed) for seed, policy in enumerate(("radix", "dynamo", "random"))]
    return Report(
        runs=tuple(
            ReportedRun(run, request_losses=random_losses(run, seed))
            for seed, run in enumerate(runs)
        ),
        bounds={"infinite": 0.9, "pooled_belady": 0.8},
    )


def test_two_processes_write_the_same_bytes():
    told = [
        subprocess.run(
            [sys.executable, "-c", _IN_ANOTHER_PROCESS],
            capture_output=True,
            text=True,
            check=True,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": ":".join(sys.path)},
        ).stdout
        for seed in ("1", "2")
    ]
    assert told[0] == told[1]
    assert len(set(told[0].split())) == 3


def test_only_the_wall_time_differs_when_only_it_differs():
    slower = replace(tiny_run(), wall_s=9.0)
    a, b = (json.loads(results_json(Report((ReportedRun(r),)))) for r in (tiny_run(), slower))
    assert a["runs"][0].pop("wall_s") != b["runs"][0].pop("wall_s")
    assert a == b


def test_requests_that_were_never_answered_are_counted_and_count_in_no_time():
    result = tiny_run(
        worker=ints(0, -1, 1, 0),
        decided_ns=ints(0, -1, 0, 0),
        first_ns=ints(40_000_000, -1, -1, 3_020_000_000),
        finish_ns=ints(90_000_000, -1, -1, -1),
    )
    figures = run_figures(result)
    assert figures.unanswered == 2
    assert figures.ttft_mean_ms == 30.0
    assert figures.itl_mean_ms == 5.0  # of the one that ended
    assert figures.load_max_over_mean == pytest.approx(500 / 400)
    rows = [json.loads(line) for line in requests_jsonl(ReportedRun(result)).splitlines()]
    assert [row["ttft_ms"] for row in rows] == [40.0, None, None, 20.0]
    assert rows[1]["worker"] is None
    assert rows[1]["decided_ms"] is None
    assert "2 requests were never answered" in conclusion(Report((ReportedRun(result),)))


def test_a_run_that_answered_nobody_is_still_reported():
    never = ints(-1, -1, -1, -1)
    result = tiny_run(
        worker=never, decided_ns=never, first_ns=never, finish_ns=never, cached_tokens=never * 0
    )
    report = Report((ReportedRun(result),), bounds={"infinite": 0.5})
    record = json.loads(results_json(report))["runs"][0]
    assert record["ttft_ms"] == {"mean": None, "p50": None, "p90": None, "p99": None}
    assert record["load_max_over_mean"] is None
    assert conclusion(report) == "no request was answered."
    assert "radix" in shown(report)


def test_without_runs_there_is_still_a_report():
    report = Report(())
    assert json.loads(results_json(report)) == {
        "trace": {},
        "runs": [],
        "bounds": {},
        "command": "",
        "config_hash": "",
        "settings": {},
        "trace_hash": None,
    }
    assert conclusion(report) == "No runs."
    assert "no trace" in shown(report)


def test_the_bound_is_the_lowest_that_no_run_can_pass_and_a_run_may_bring_its_own():
    bounds = {"pooled_lru": 0.1, "infinite": 0.8}
    own = ReportedRun(tiny_run(workers=4), reachable=0.64)
    report = Report((ReportedRun(tiny_run()), own), bounds=bounds)
    assert report.bound == "infinite"
    assert [one.of_reachable for one in report.figures()] == pytest.approx([0.72, 0.9])
    assert Report((), bounds={"pooled_lru": 0.1}).bound is None


def test_totals_by_class_come_from_the_requests_where_none_are_given():
    assert ReportedRun(tiny_run(), request_losses=tiny_losses()).lost == dict(
        zip(CLASSES, (409, 11, 4), strict=True)
    )


def test_numbers_that_do_not_fit_the_trace_are_refused():
    with pytest.raises(InvalidShape, match=r"'last_token'.*3 numbers for 4"):
        ReportedRun(tiny_run(), request_losses={"last_token": ints(1, 1, 1)})
    with pytest.raises(InvalidShape, match="different traces"):
        Report((ReportedRun(tiny_run()), ReportedRun(random_run("radix", 1))))
    with pytest.raises(InvalidShape, match="bound 'infinite'"):
        Report((ReportedRun(tiny_run()),), bound_tokens={"infinite": ints(1)})


def test_the_table_marks_the_best_of_each_column_and_no_draw():
    lines = shown(tiny_report()).splitlines()
    radix = next(line for line in lines if line.startswith("│ radix"))
    other = next(line for line in lines if line.startswith("│ round_robin"))
    assert [part for part in radix.split() if part.endswith("*")] == [
        "0.5760*",
        "80.0*",
        "25.0*",
        "25.0*",
        "37.0*",
        "39.7*",
    ]
    assert "*" not in other
    assert "5.00" in other  # equal ITL and load: nobody is marked


def test_runs_are_compared_only_within_their_setting():
    runs = (
        ReportedRun(tiny_run()),
        ReportedRun(tiny_run("dynamo", (20, 20, 20, 20))),
        ReportedRun(tiny_run(ttft_ms=(1, 1, 1, 1), speed=4.0)),
    )
    text = conclusion(Report(runs)).splitlines()
    assert text == [
        "2 workers, speed 1, seed 7: dynamo answers first: mean TTFT 20 % below radix, the next;"
        " reuse 0.5760.",
        "2 workers, speed 4, seed 7: radix: mean TTFT 1.0 ms; reuse 0.5760.",
    ]
    assert "20.0*" in shown(Report(runs))
    assert "1.0*" not in shown(Report(runs))


def test_settings_are_named_by_what_tells_them_apart():
    assert setting_names([(8, 1.0, 0), (8, 4.0, 0)]) == ["speed 1", "speed 4"]
    assert setting_names([(1, 1.0, 3), (8, 4.0, 3)]) == ["1 worker, speed 1", "8 workers, speed 4"]
    assert setting_names([(8, 1.0, 0)]) == [""]


def test_the_conclusion_says_who_reuses_more_and_who_is_equal():
    sooner = ReportedRun(tiny_run("sooner", cached_tokens=ints(0, 0, 0, 0)))
    more = ReportedRun(tiny_run("more", (50, 50, 50, 50)))
    assert conclusion(Report((sooner, more))) == (
        "sooner answers first: mean TTFT 50 % below more, the next; reuse 0.0000"
        " (more reuses most: 0.5760)."
    )
    same = Report((ReportedRun(tiny_run("a")), ReportedRun(tiny_run("b"))))
    assert "answer equally soon" in conclusion(same)


def test_names_from_outside_stay_names_in_the_terminal():
    report = Report((ReportedRun(tiny_run("[red]x[/] \x1b[31m", trace=tiny_trace("[b]t\x1b"))),))
    text = shown(report) + conclusion(report)
    assert "[red]x[/]" in text
    assert "[b]t" in text
    assert "\x1b" not in text


def test_hit_rates_over_time_are_those_of_the_requests_that_came_then():
    result = tiny_run()
    seconds, share = share_over_time(result, result.cached_tokens, 4)
    assert share == pytest.approx([0, 96 / 200, 192 / 300, 288 / 400])
    assert seconds == pytest.approx([0.375, 1.125, 1.875, 2.625], abs=1e-6)
    _, whole = share_over_time(result, result.cached_tokens, 1)
    assert whole == pytest.approx([result.reuse])
    late = tiny_run(arrival_ns=ints(0, 1, 2, 3000) * 1_000_000)
    seconds, _ = share_over_time(late, late.cached_tokens, 10)
    assert len(seconds) == 2  # the times in between have no rate, not a rate of 0


def test_requests_in_flight_equal_a_count_at_every_moment():
    result = random_run("radix", 3, requests=60, workers=3)
    seconds, load = in_flight_over_time(result, 50)
    end = result.finish_ns.max()
    for worker in range(3):
        mine = result.worker == worker
        spent = (result.finish_ns - result.decided_ns)[mine].sum()
        assert load[worker].mean() * end == pytest.approx(spent)
    # Within one bucket: by counting at many moments.
    moments = np.linspace(0, end, 20_000)[:, None]
    during = (result.decided_ns <= moments) & (moments < result.finish_ns) & (result.worker == 1)
    counted = during.sum(axis=1).reshape(50, -1).mean(axis=1)
    assert load[1] == pytest.approx(counted, abs=0.02)
    assert seconds[0] == pytest.approx(end / 1e9 / 100)


def test_the_distribution_of_ttft_rises_to_the_slowest():
    ms, share = ttft_distribution(random_run("radix", 1))
    assert (np.diff(ms) >= 0).all()
    assert (share[0], share[-1]) == (0, 1)
    assert ms[-1] == run_max(random_run("radix", 1))


def run_max(result):
    return ((result.first_ns - result.arrival_ns) / 1e6).max()


def test_every_setting_of_a_replay_is_told():
    settings = LabSettings(policies=("radix",), kv_blocks=100, block_size=16, slowness=(2.0, 3.0))
    told = settings_in_words(asdict(settings), "1.2.3")
    assert told["radixroute"] == "1.2.3"
    assert told["policies"] == "radix"
    assert told["KV blocks of each worker"] == "100 (1,600 tokens)"
    assert told["slowness of the first workers"] == "2, 3"
    assert told["cache events reach the router after"] == "0 ms"
    assert told["timing"].startswith("polynomial, a2 4.20999e-07, a1 0.0151834")
    inner = sum(len(fields(one)) - 1 for one in (settings.conditions, settings.routers))
    assert len(told) == len(fields(settings)) + inner + 1


def test_a_setting_without_words_keeps_its_name():
    told = settings_in_words({"new_thing_ms": 2.5, "parts": (), "is_on": True, "none": None}, "1")
    assert told == {
        "radixroute": "1",
        "new thing": "2.5 ms",
        "parts": "none",
        "is on": "yes",
        "none": "none",
    }
