"""The page of a report: whole, self-contained, deaf to hostile names, drawn inside its lines."""

import base64
import hashlib
import re
from html.parser import HTMLParser
from typing import Any

import numpy as np
import pytest

from radixroute.replay.report.html import index_html
from radixroute.replay.report.report import Report, ReportedRun
from radixroute.replay.report.svg import Scale
from tests.replay.report_samples import (
    random_losses,
    random_run,
    tiny_report,
    tiny_run,
    tiny_trace,
)

VOID = {"meta", "br", "line", "rect", "circle", "polyline", "polygon"}  # written `<x/>` in SVG
HOSTILE = "</title><script>alert(1)</script>\"' onload=alert(1) x=\x1b[31m\u202e\ud800&amp;{}"


class Page(HTMLParser):
    """Every element with its attributes; raises where tags do not pair up."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.found: list[Any] = []
        self.texts: list[tuple[str, str]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), (tag, attrs)
        self.found.append((tag, dict(attrs), tuple(self.open)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert tag in VOID
        self.found.append((tag, dict(attrs), tuple(self.open)))

    def handle_endtag(self, tag):
        assert self.open
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append((self.open[-1] if self.open else "", data))

    def all(self, tag):
        return [attrs for name, attrs, _ in self.found if name == tag]


def many(runs=8, requests=400, **changes):
    reported = []
    for k in range(runs):
        result = random_run(f"policy_{k}", k, requests=requests, **changes)
        reported.append(ReportedRun(result, request_losses=random_losses(result, k)))
    return tuple(reported)


def never_run():
    never = np.full(4, -1)
    return tiny_run("never", worker=never, decided_ns=never, first_ns=never, finish_ns=never)


def instant_run():
    return tiny_run("instant", (0, 0, 0, 0))


REPORTS = {
    "tiny": tiny_report,
    "no runs": lambda: Report(()),
    "a run that answered nobody": lambda: Report((ReportedRun(never_run()),)),
    "no time at all": lambda: Report((ReportedRun(instant_run()), ReportedRun(tiny_run()))),
    "more policies than colours": lambda: Report(many(19), bounds={"infinite": 0.9}),
    "many workers": lambda: Report(many(3, workers=40)),
    "several settings": lambda: Report((*many(3), *many(3, speed=4.0), *many(2, workers=8))),
    "a bound over time": lambda: Report(
        many(2),
        bounds={"infinite": 0.8},
        bound_tokens={"infinite": many(1)[0].result.trace.input_tokens * 8 // 10},
    ),
    "the same policy twice": lambda: Report((ReportedRun(tiny_run()), ReportedRun(tiny_run()))),
    "hostile names": lambda: Report(
        (
            ReportedRun(tiny_run(HOSTILE, trace=tiny_trace(HOSTILE)), losses={HOSTILE: 5}),
            ReportedRun(tiny_run("x" * 5000)),
        ),
        bounds={"infinite": 0.7, HOSTILE: 0.5},
        definitions={HOSTILE: HOSTILE},
        command=HOSTILE,
        config_hash=HOSTILE,
    ),
}


@pytest.fixture(params=list(REPORTS.values()), ids=list(REPORTS))
def text(request):
    return index_html(request.param())


def test_every_tag_is_closed_in_order_and_nothing_is_fetched(text):
    page = Page(text)
    assert text.startswith("<!DOCTYPE html>\n<html")
    for tag, attrs, _ in page.found:
        assert tag not in {"link", "img", "iframe", "object", "base", "form", "a", "use", "image"}
        assert not {"src", "href", "xlink:href", "srcset", "action", "style"} & set(attrs)
        assert not any(name.startswith("on") for name in attrs)
    style = "".join(data for tag, data in page.texts if tag == "style")
    assert "@import" not in style
    assert set(re.findall(r"url\(([^)]*)\)", style)) == {"#stripes"}
    assert not re.search(r"https?:|//\w", text)


def test_only_the_page_s_own_script_may_run(text):
    page = Page(text)
    (script,) = [data for tag, data in page.texts if tag == "script"]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    (policy,) = [m["content"] for m in page.all("meta") if "http-equiv" in m]
    assert policy == (
        f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )


def test_everything_is_drawn_inside_its_plot(text):
    page = Page(text)
    box, checked = [0.0, 0.0], 0
    for tag, attrs, _ in page.found:
        if tag == "svg":
            box = [float(part) for part in attrs.get("viewbox", "0 0 0 0").split()[2:]]
            continue
        for x, y in points_of(tag, attrs):
            assert np.isfinite([x, y]).all()
            assert 0 <= x <= box[0], (tag, attrs, box)
            assert 0 <= y <= box[1], (tag, attrs, box)
            checked += 1
    assert checked > 50 or "No runs" in text


def points_of(tag, attrs):
    if tag in {"polyline", "polygon"}:
        return [tuple(map(float, point.split(","))) for point in attrs["points"].split()]
    if tag == "line":
        return [(float(attrs["x1"]), float(attrs["y1"])), (float(attrs["x2"]), float(attrs["y2"]))]
    if tag == "circle":
        return [(float(attrs["cx"]), float(attrs["cy"]))]
    if tag == "text":
        return [(float(attrs["x"]), float(attrs["y"]))]
    if tag == "rect" and "y" in attrs:
        x, y = float(attrs["x"]), float(attrs["y"])
        return [(x, y), (x + float(attrs["width"]) - 0.11, y + float(attrs["height"]))]
    return []


def test_series_that_a_button_switches_exist_and_have_one(text):
    page = Page(text)
    buttons = [attrs["data-k"] for attrs in page.all("button")]
    assert len(buttons) == len(set(buttons))
    switched = {a["data-k"] for tag, a, _ in page.found if "data-k" in a and tag != "button"}
    assert switched == set(buttons)


def test_no_number_is_missing_its_value(text):
    said = [data for tag, data in Page(text).texts if tag not in {"script", "style"}]
    assert not any(re.search(r"\b(nan|inf|None)\b", data) for data in said)


def test_hostile_names_stay_text():
    text = index_html(REPORTS["hostile names"]())
    page = Page(text)
    assert "alert(1)" not in "".join(data for tag, data in page.texts if tag == "script")
    said = "".join(data for tag, data in page.texts if tag == "h1")
    assert said == f"Replay of {HOSTILE}".replace("\x1b", "�").replace("\u202e", "�").replace(
        "\ud800", "�"
    )
    text.encode()  # a lone surrogate would not
    assert len(text) < 100_000  # a long name is not written into every mark


def test_curves_are_where_their_values_are():
    page = Page(index_html(tiny_report()))
    plots = [a for a in page.all("svg") if "data-x" in a]
    (rates,) = [a for a in plots if a["aria-label"].startswith("Hit rate")]
    x, y = scale(rates["data-x"]), scale(rates["data-y"])
    curve = curve_after(page, rates, "0")
    expected = [(0, 0.0), (1, 48.0), (2, 64.0), (3, 72.0)]
    for (px, py), (seconds, percent) in zip(curve, expected, strict=True):
        assert px == pytest.approx(x(seconds), abs=4)  # the middle of a bucket
        assert py == pytest.approx(y(percent), abs=0.06)
    (times,) = [a for a in plots if a["aria-label"].startswith("Distribution")]
    x, y = scale(times["data-x"]), scale(times["data-y"])
    curve = curve_after(page, times, "0")
    assert curve[0] == pytest.approx((x(10), y(0)), abs=0.06)
    assert curve[-1] == pytest.approx((x(40), y(100)), abs=0.06)


def scale(text):
    kind, low, high, start, end = text.split()
    return Scale(float(low), float(high), float(start), float(end), kind == "log")


def curve_after(page, svg, key):
    place = next(k for k, (_, attrs, _) in enumerate(page.found) if attrs is svg)
    for tag, attrs, _ in page.found[place:]:
        if tag == "polyline" and attrs.get("data-k") == key:
            return points_of(tag, attrs)
    raise AssertionError(f"no curve {key}")


def test_bars_are_as_long_as_their_shares():
    page = Page(index_html(tiny_report()))
    bars = {a["data-t"]: float(a["width"]) for a in page.all("rect") if "data-t" in a}
    assert bars["radix, from cache: 576 tokens, 57.60 %"] == pytest.approx(0.576 * 432, abs=0.06)
    assert bars["round_robin, never seen: 800 tokens, 80.00 %"] == pytest.approx(
        0.8 * 432, abs=0.06
    )
    radix = [a for a in page.all("rect") if a.get("data-t", "").startswith("radix,")]
    end = 4.0
    for part in radix:  # every prompt token is in one part, end to end
        assert float(part["x"]) == pytest.approx(end, abs=0.11)
        end += float(part["width"])
    assert end == pytest.approx(436, abs=0.2)


def test_two_runs_of_one_policy_are_told_apart():
    page = Page(index_html(REPORTS["the same policy twice"]()))
    names = [data for tag, data in page.texts if tag == "button"]
    assert names == ["radix", "radix (2)"]


def test_points_of_the_scatter_stand_at_their_runs():
    page = Page(index_html(tiny_report()))
    dots = {a["data-t"]: a for a in page.all("circle")}
    assert set(dots) == {
        "radix: reuse 57.60 %, mean TTFT 25.0 ms",
        "round_robin: reuse 9.60 %, mean TTFT 65.0 ms",
    }
    radix, other = dots.values()
    assert float(radix["cx"]) < float(other["cx"])
    assert float(radix["cy"]) < float(other["cy"])  # more reuse is higher up


def test_a_big_comparison_stays_a_few_hundred_kilobytes():
    assert len(index_html(Report(many(8, requests=12_000, workers=16)))) < 400_000


@pytest.mark.parametrize(
    ("low", "high", "is_log", "ticks"),
    [
        (0, 100, False, [0, 20, 40, 60, 80, 100]),
        (0, 0.36, False, [0, 0.1, 0.2, 0.3]),
        (182, 300, False, [200, 250, 300]),
        (8, 9000, True, [10, 30, 100, 300, 1000, 3000]),
        (15, 130, True, [20, 50, 100]),
        (1e-3, 1e9, True, [1e-3, 1e0, 1e3, 1e6, 1e9]),
    ],
)
def test_ticks_are_round_numbers_within_the_axis(low, high, is_log, ticks):
    assert Scale(low, high, 0, 1, is_log).ticks() == pytest.approx(ticks)
