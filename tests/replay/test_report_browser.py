"""The page of a report in a real browser: drawn, readable at every width, on paper, and alive."""

import re

import pytest

from radixroute.replay.findings import Finding
from radixroute.replay.report.page.html import index_html
from radixroute.replay.report.report import Report, ReportedRun
from tests.chromium import browser
from tests.replay.report_pages import REPORTS, many
from tests.replay.report_samples import tiny_report

WIDTHS = (390, 1400)
PAPER = 700  # pixels of a page of A4 between its margins


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("pages")


def full_report():
    """Thirteen policies, every section."""
    runs = many(13, requests=900, workers=8)
    first = ReportedRun(
        runs[0].result,
        request_losses=runs[0].request_losses,
        reachable=0.6,
        findings=(Finding("starved", "Worker 3 got 2 % of the requests.", 0.02, (3,)),),
    )
    return Report(
        (first, *runs[1:]),
        bounds={"infinite": 0.7, "pooled_belady": 0.6},
        definitions={"not_chosen": "Another worker held it.", "infinite": "All that recurs."},
        command="radixroute replay trace.jsonl --policy all -o report",
        config_hash="00ff",
        settings={"radixroute": "0.1.0", "seed": "0", "KV blocks of each worker": "16,384"},
    )


def written(folder, name, report):
    path = folder / f"{name}.html"
    path.write_text(index_html(report), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def page(folder):
    return written(folder, "full", full_report())


@pytest.fixture(scope="module")
def page_of_six(folder):
    return written(folder, "six", Report(many(6, requests=200)))


def drawn(window):
    return window.run("Number(document.documentElement.dataset.drawn)")


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_all_is_drawn_and_nothing_covers_anything(width, is_dark, page, window, tmp_path):
    window.open(page, width, 900, is_dark=is_dark)
    assert window.console == []
    assert drawn(window) == 3 + 3 * 13
    assert window.faults == []
    advice, best, why = window.run(
        "['h1', '.three li:last-child', 'figure canvas'].map((one) =>"
        " document.querySelector(one).getBoundingClientRect().bottom)"
    )
    assert advice < best < 900  # the first screen
    assert why < (900 if width > 1000 else 1500)
    window.picture(tmp_path / f"report-{width}-{'dark' if is_dark else 'light'}.png")


SORTS = ("no runs", "a run that answered nobody", "live beside simulated", "hostile names")


@pytest.mark.parametrize("name", SORTS)
def test_reports_of_every_sort_stand_on_a_phone(name, folder, window):
    window.open(written(folder, "sort", REPORTS[name]()), 390, 900)
    assert window.console == []
    assert window.faults == []


def test_paper_is_light_and_holds_all(folder, window, tmp_path):
    page = written(folder, "settings", Report((*many(2), *many(2, speed=4.0))))
    window.open(page, PAPER, 900, is_dark=True, media="print")
    before = drawn(window)
    window.run("dispatchEvent(new Event('beforeprint')), 0")
    assert window.run("getComputedStyle(document.body).colorScheme") == "light"
    assert window.run("document.querySelectorAll('details:not([open])').length") == 0
    assert drawn(window) > before
    assert drawn(window) == window.run("document.querySelectorAll('canvas').length")
    assert window.faults == []
    window.picture(tmp_path / "paper.png")
    window.run("dispatchEvent(new Event('afterprint')), 0")
    assert window.run("document.querySelectorAll('details:not([open])').length") == 1
    paper = window.pdf()
    assert len(re.findall(rb"/Type\s*/Page\b", paper)) >= 3
    assert window.console == []


def chart(name, what):
    return f"Chart.getChart(document.getElementById('{name}')).{what}"


def middle(window, name):
    """Of a canvas, in the window, after scrolling to it."""
    return window.run(
        f"(() => {{ const one = document.getElementById('{name}');"
        " one.scrollIntoView({block: 'center'}); const box = one.getBoundingClientRect();"
        " return [box.left, box.top, box.width, box.height]; })()"
    )


def test_a_key_shows_and_hides_its_curve(page_of_six, window):
    window.open(page_of_six, 1400, 900)
    assert not window.run(chart("s0-ttft", "isDatasetVisible(5)"))
    press = "document.querySelector('[data-chart=s0-ttft][data-series=\"5\"]').click()"
    window.run(press)
    assert window.run(chart("s0-ttft", "isDatasetVisible(5)"))
    assert window.faults == []
    window.run(press)
    assert not window.run(chart("s0-ttft", "isDatasetVisible(5)"))


def test_a_pointer_reads_numbers(page_of_six, window):
    window.open(page_of_six, 1400, 900)
    for name in ("s0-parts", "s0-ttft", "s0-rate-0", "s0-work-1"):
        left, top, width, height = middle(window, name)
        window.mouse("Moved", left + width / 2, top + height / 3)
        window.until(chart(name, "tooltip.opacity > 0"))
        assert window.run(chart(name, "tooltip.body.length")) >= 1
    assert window.console == []


def test_dragging_looks_closer_and_a_button_shows_all_again(page_of_six, window):
    window.open(page_of_six, 1400, 900)
    scale = (
        "[" + chart("s0-rate-0", "scales.x.min") + "," + chart("s0-rate-4", "scales.x.min") + "]"
    )
    assert window.run(scale) == [0, 0]
    drag(window, *middle(window, "s0-rate-0"))
    window.until(chart("s0-rate-0", "scales.x.min > 0"))
    first, other = window.run(scale)
    assert first > 0
    assert first == other  # small charts beside one another show the same span
    window.run("document.getElementById('s0-rate-4').dispatchEvent(new Event('dblclick')), 0")
    assert window.run(scale) == [0, 0]

    low = window.run(chart("s0-ttft", "scales.x.min"))
    drag(window, *middle(window, "s0-ttft"))
    window.until(chart("s0-ttft", f"scales.x.min > {low}"))
    button = "document.querySelector('[data-again=s0-ttft]')"
    assert not window.run(f"{button}.hidden")
    window.run(f"{button}.click()")
    assert window.run(chart("s0-ttft", "scales.x.min")) == low
    assert window.run(f"{button}.hidden")
    assert window.console == []


def drag(window, left, top, width, height):
    y = top + height / 2
    window.mouse("Moved", left + 0.5 * width, y)
    window.mouse("Pressed", left + 0.5 * width, y, buttons=1, clicks=1)
    window.mouse("Moved", left + 0.6 * width, y, buttons=1)
    window.mouse("Moved", left + 0.7 * width, y, buttons=1)
    window.mouse("Released", left + 0.7 * width, y, clicks=1)


BREAKS = {
    "labels over one another": (
        "autoSkip: !axisSpec.log",
        "autoSkip: false, stepSize: 2, maxTicksLimit: 99",
    ),
    "a label cut": ("Math.max(0, ...spec.ends", "0 * Math.max(0, ...spec.ends"),
    "a table too wide": ('class="cards"', 'class="wide"'),
    "words over one another": ("</style>", ".kicker{margin-bottom:-20px}</style>"),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_broken_is_seen(name, folder, window):
    """That the checks above can fail."""
    old, new = BREAKS[name]
    text = index_html(Report(many(6, requests=200)))
    assert old in text
    broken = folder / "broken.html"
    without_policy = re.sub(r'<meta http-equiv="Content-Security-Policy"[^>]*>', "", text)
    broken.write_text(without_policy.replace(old, new), encoding="utf-8")
    window.open(broken, 390, 900)
    assert window.faults != []


def test_a_script_that_fails_or_may_not_run_is_seen(folder, window):
    text = index_html(tiny_report())
    for old, new in (('id="charts"', 'id="other"'), ("drawVisible();\n})", "drawVisible(); \n})")):
        assert old in text
        broken = folder / "broken.html"
        broken.write_text(text.replace(old, new), encoding="utf-8")
        window.open(broken, 800, 600)
        assert window.console != []
