"""The page of a report: whole, self-contained, deaf to hostile names, true to its numbers."""

import base64
import hashlib
import re
from importlib import resources

import numpy as np
import pytest

from radixroute.replay.report.figures import ttft_parts, work_by_worker
from radixroute.replay.report.losses import losses
from radixroute.replay.report.page.advice import advice
from radixroute.replay.report.page.charts import Axis, Chart, Kind, Series, charts_json
from radixroute.replay.report.page.html import index_html
from radixroute.replay.report.page.library import CHART, ZOOM
from radixroute.replay.report.page.shown import groups, standings
from radixroute.replay.report.page.words import duration, percent
from radixroute.replay.report.report import Report, ReportedRun
from tests.replay.report_pages import HOSTILE, REPORTS, Page, many
from tests.replay.report_samples import ints, random_run, tiny_losses, tiny_report, tiny_run

MAX_BYTES = 5_000_000


@pytest.fixture(params=list(REPORTS.values()), ids=list(REPORTS), scope="module")
def text(request):
    return index_html(request.param())


def test_every_tag_is_closed_in_order_and_nothing_is_fetched(text):
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n<html")
    for tag, attrs, _ in page.found:
        assert tag not in {"link", "img", "iframe", "object", "base", "form", "a", "use", "image"}
        assert not {"src", "href", "xlink:href", "srcset", "action", "style"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
    (style,) = [data for tag, data in page.texts if tag == "style"]
    assert "@import" not in style
    assert "url(" not in style


def test_only_the_page_s_own_scripts_may_run(text):
    page = Page(text)
    data, *scripts = page.scripts
    assert len(scripts) == 3
    digests = [
        base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts
    ]
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    allowed = " ".join(f"'sha256-{digest}'" for digest in digests)
    assert policy == f"default-src 'none'; style-src 'unsafe-inline'; script-src {allowed}"
    assert "<" not in data


@pytest.mark.parametrize("library", [CHART, ZOOM], ids=lambda one: one.package)
def test_the_libraries_are_the_ones_that_are_pinned(library):
    assert hashlib.sha256(library.content).hexdigest() == library.sha256
    assert f"v{library.version}".encode() in library.content[:200]


def test_every_chart_has_a_canvas_and_every_key_a_series(text):
    page = Page(text)
    charts = page.charts
    assert [one["id"] for one in page.all("canvas")] == list(
        dict.fromkeys(one["id"] for one in page.all("canvas"))
    )
    assert {one["id"] for one in page.all("canvas")} == set(charts)
    keys = [one for one in page.all("button") if "data-chart" in one]
    for one in keys:
        series = charts[one["data-chart"]]["series"][int(one["data-series"])]
        assert one["aria-pressed"] == ("false" if series["hidden"] else "true")
    assert all(one["data-again"] in charts for one in page.all("button") if "data-again" in one)


def test_no_number_is_missing_its_value(text):
    said = [data for tag, data in Page(text).texts if tag not in {"script", "style"}]
    assert not any(re.search(r"\b(nan|inf|None)\b", data) for data in said)


def test_every_curve_has_as_many_values_as_places(text):
    for chart in Page(text).charts.values():
        for one in chart["series"]:
            wanted = len(one["xs"]) if chart["kind"] == "lines" else len(chart["labels"])
            assert len(one["ys"]) == wanted, chart["name"]
        assert len(chart["ends"]) in {0, len(chart["labels"])}


def test_hostile_names_stay_text():
    text = index_html(REPORTS["hostile names"]())
    page = Page(text)
    assert not any("alert(1)" in script for script in page.scripts[1:])
    shown = f"Replay of {HOSTILE}".replace("\x1b", "�").replace("\u202e", "�")
    assert shown.replace("\ud800", "�") in page.words
    assert "\x1b" not in text
    text.encode()  # a lone surrogate would not
    assert "x" * 100 not in text  # a long name is cut


def test_the_page_is_small():
    big = Report(many(13, requests=12_000, workers=64), bounds={"infinite": 0.9})
    assert len(index_html(big)) < 600_000
    grid = [many(13, workers=workers, speed=speed) for workers in (4, 8, 16) for speed in (1.0, 3)]
    whole = Report(tuple(run for runs in grid for run in runs))
    assert len(index_html(whole)) < MAX_BYTES


def told(report):
    found = groups(report)
    return advice(found, standings(found))


def test_advice_is_one_sentence_with_its_size():
    runs = (ReportedRun(tiny_run("b", (50, 60, 70, 80))), ReportedRun(tiny_run("a")))
    found = told(Report(runs))
    assert found.sentence == (
        "Take a: its first tokens come 62 % sooner than with b, the next best of 2 policies"
        " (25 ms on average, not 65 ms); most of that is time not spent computing prompts."
    )
    assert found.names == ("a",)
    late = tiny_run("b", (50, 60, 70, 80), decided_ns=tiny_run().arrival_ns + 40_000_000)
    waits = told(Report((ReportedRun(late), ReportedRun(tiny_run("a")))))
    assert waits.sentence.endswith("most of that is time not spent waiting for a worker.")


def test_advice_names_no_winner_where_there_is_none():
    pair = [ReportedRun(tiny_run(name)) for name in "ab"]
    slow = ReportedRun(tiny_run("c", (50, 60, 70, 80)))
    assert told(Report((*pair, slow))).sentence == (
        "Take a or b: they answer equally soon, after 25 ms and 25 ms on average; the next, c,"
        " after 65 ms."
    )
    assert "nothing to choose" in told(Report((pair[0],))).sentence
    never = ints(-1, -1, -1, -1)
    silent = tiny_run(first_ns=never, finish_ns=never, decided_ns=never, worker=never)
    assert told(Report((ReportedRun(silent),))).sentence.startswith("No request was answered")
    assert told(Report(())).sentence.startswith("There are no runs")


def test_advice_over_settings_is_by_geometric_mean():
    def run(name, factor, speed):
        times = tuple(factor * one for one in (40, 10, 20, 30))
        return ReportedRun(tiny_run(name, times, speed=speed))

    runs = (run("a", 2, 1.0), run("b", 1, 1.0), run("a", 10, 4.0), run("b", 80, 4.0))
    found = told(Report(runs))
    # a: 2 and 1 times the best, b: 1 and 8 times: sqrt(2) against sqrt(8).
    assert found.sentence == (
        "Take a: over 2 settings its first tokens come 50 % sooner than with b, the next best"
        " (geometric mean); it is first in 1 of them."
    )
    page = Page(index_html(Report(runs)))
    assert "speed 4" in page.words
    assert "88 % sooner than b" in page.words


def test_what_speaks_against_the_best_is_said():
    steady = tiny_run("steady", (30, 30, 30, 30))
    notes = told(Report((ReportedRun(tiny_run("a")), ReportedRun(steady)))).notes
    assert notes == (
        "For the slowest hundredth of requests steady is better: they wait up to 30 ms, not"
        " 39.7 ms (p99).",
    )
    assert told(Report((ReportedRun(steady),))).notes == ()


def test_live_runs_are_judged_and_simulated_ones_stand_beside_them():
    found = groups(REPORTS["live beside simulated"]())
    assert [one.name for one in found[0].shown] == ["radix (live)", "radix"]
    assert [one.name for one in found[0].judged] == ["radix (live)"]
    assert "simulated 25.0 ms (-29 %)" in " ".join(told(REPORTS["live beside simulated"]()).notes)


def test_two_runs_of_one_policy_are_told_apart():
    (group,) = groups(REPORTS["the same policy twice"]())
    assert [one.name for one in group.shown] == ["radix", "radix (2)"]


def test_parts_of_the_time_to_first_token_are_all_of_it():
    result = random_run("radix", 1)
    parts = ttft_parts(result)
    total = parts.router_ms + parts.queue_ms + parts.compute_ms
    assert total == pytest.approx((result.first_ns - result.arrival_ns) / 1e6)
    late = tiny_run(
        decided_ns=tiny_run().arrival_ns + 4_000_000, admitted_ns=tiny_run().arrival_ns + 9_000_000
    )
    assert ttft_parts(late).means() == pytest.approx((4.0, 5.0, 16.0))
    unknown = ttft_parts(tiny_run(admitted_ns=ints(-1, -1, -1, -1)))
    assert not unknown.has_queue
    assert unknown.means() == pytest.approx((0.001, 0.0, 24.999))


def test_charts_show_the_figures():
    charts = Page(index_html(tiny_report())).charts
    parts = charts["s0-parts"]
    assert parts["labels"] == ["radix", "round_robin"]
    assert parts["ends"] == ["25 ms", "65 ms"]
    assert sum(one["ys"][0] for one in parts["series"]) == pytest.approx(25.0)
    reuse = charts["s0-reuse"]
    by_name = {one["name"]: one["ys"] for one in reuse["series"]}
    assert by_name["reused"] == pytest.approx([80.0, 100 * 0.096 / 0.72], rel=1e-3)
    assert by_name["missed: held by a worker that was not chosen"] == pytest.approx(
        [100 * 11 / 720, 0], abs=0.01
    )
    assert not any("new" in name for name in by_name)  # no cache could have served these
    times = charts["s0-ttft"]["series"][0]
    assert (times["xs"][0], times["xs"][-1]) == (10, 40)
    assert (times["ys"][0], times["ys"][-1]) == (0, 100)
    rates = charts["s0-rate-0"]["series"][0]
    assert rates["ys"] == pytest.approx([0, 48, 64, 72], abs=0.01)
    assert charts["s0-rate-1"]["series"][1]["name"] == "radix"
    assert charts["s0-work-0"]["series"][0]["ys"] == pytest.approx([100.0, 100.0])


def test_work_is_what_was_computed():
    half = tiny_run(cached_tokens=ints(100, 0, 0, 400))
    assert work_by_worker(half) == pytest.approx([0.0, 2.0])


def test_the_worst_losses_come_first_with_their_reasons():
    run = tiny_run(
        decided_ns=tiny_run().arrival_ns + ints(0, 8, 0, 0) * 1_000_000,
        admitted_ns=tiny_run().arrival_ns + ints(0, 9, 0, 0) * 1_000_000,
    )
    found = losses(ReportedRun(run, request_losses=tiny_losses()))
    assert [one.index for one in found.worst] == [1, 3]
    worst, second = found.worst
    assert (worst.router_ms, worst.queue_ms, worst.again_ms) == (8.0, 1.0, 0.0)
    assert second.lost_ms == pytest.approx(30 * 11 / 112)  # of 112 computed 11 were held elsewhere
    assert second.again_tokens == {"not_chosen": 11}
    assert found.lost_ms == pytest.approx(9 + 30 * 11 / 112)
    assert found.ttft_ms == pytest.approx(100)
    text = index_html(Report((ReportedRun(run, request_losses=tiny_losses()),)))
    assert "waited 8 ms at the router; waited 1 ms in the queue of worker 1" in text
    assert "computed 11 tokens again: held by a worker that was not chosen" in text


def test_findings_of_detectors_have_their_place():
    page = Page(index_html(REPORTS["findings"]()))
    assert "What stands out Workers left out (radix): It got" in page.words
    assert "What stands out" not in index_html(tiny_report())


def test_everything_the_run_depended_on_is_told():
    report = tiny_report()
    page = Page(index_html(report))
    for part in (report.command, report.config_hash, report.trace.digest):
        assert part in page.words


def test_what_cannot_be_drawn_is_refused():
    chart = Chart("x", "x", Kind.LINES, Axis(), Axis(), [Series("a", [float("nan")], [1.0])])
    with pytest.raises(ValueError, match="cannot be drawn"):
        charts_json([chart])


@pytest.mark.parametrize(
    ("ms", "text"),
    [
        (0.0, "0 ms"),
        (4.2129, "4.21 ms"),
        (39.66, "39.7 ms"),
        (412.4, "412 ms"),
        (3214.0, "3.21 s"),
        (31_240.0, "31.2 s"),
        (2_000_000.0, "2,000 s"),
        (float("nan"), "-"),
    ],
)
def test_times_are_told_in_three_digits_with_their_unit(ms, text):
    assert duration(ms) == text


def test_shares_are_whole_percents_until_that_says_nothing():
    assert [percent(one) for one in (0.0, 0.0234, 0.1666, 1.02)] == [
        "0 %",
        "2.3 %",
        "17 %",
        "102 %",
    ]


# Machado, Oliveira, Fernandes 2009: what a dichromat sees, on linear RGB, severity 1.
_SIGHT = {
    "all cones": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)


def _linear(hexadecimal):
    rgb = np.array([int(hexadecimal[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(rgb <= 0.04045, rgb / 12.92, ((rgb + 0.055) / 1.055) ** 2.4)


def _lab(linear):
    xyz = _TO_XYZ @ np.clip(linear, 0, 1) / (0.95047, 1.0, 1.08883)
    f = np.where(xyz > 216 / 24389, np.cbrt(xyz), (24389 / 27 * xyz + 16) / 116)
    return np.array([116 * f[1] - 16, 500 * (f[0] - f[1]), 200 * (f[1] - f[2])])


def _contrast(a, b):
    bright, dark = sorted((float(_TO_XYZ[1] @ _linear(one)) for one in (a, b)), reverse=True)
    return (bright + 0.05) / (dark + 0.05)


def _schemes():
    style = resources.files("radixroute.replay.report.page").joinpath("page.css").read_text()
    light, dark = (
        dict(re.findall(r"--(\w+):(#\w{6})\b", block))
        for block in re.findall(r":root(?::not\(\[data-print\]\))?\{([^}]*)\}", style)[:2]
    )
    return {"light": light, "dark": dark}


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_colours_stay_apart_for_every_eye(scheme):
    colours = _schemes()[scheme]
    series = [colours[f"k{k}"] for k in range(7)]
    for sight, matrix in _SIGHT.items():
        seen = [_lab(np.asarray(matrix) @ _linear(one)) for one in series]
        for i, a in enumerate(seen):
            for j, b in enumerate(seen[:i]):
                assert np.linalg.norm(a - b) > 15, (sight, series[i], series[j])
    assert min(_contrast(one, colours["card"]) for one in series) >= 3
    for ground in ("page", "card"):
        assert _contrast(colours["ink"], colours[ground]) >= 7
        assert _contrast(colours["soft"], colours[ground]) >= 4.5
