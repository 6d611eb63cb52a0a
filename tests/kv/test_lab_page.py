"""The lab's page in a real browser: it draws every plot, says nothing on the console, and fits."""

import re

import pytest

from radixroute.kv.lab.page.html import page_html
from radixroute.kv.lab.page.picture import picture_svg
from radixroute.kv.lab.page.svg import Scale
from tests.chromium import browser
from tests.kv.reports import report

MAX_BYTES = 5_000_000


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab") / "index.html"
    path.write_text(page_html(report()), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def window(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("chromium")) as made:
        yield made


def test_the_page_is_small_and_names_nothing_to_fetch(page):
    text = page.read_text(encoding="utf-8")
    assert len(text) < MAX_BYTES
    assert "default-src &#39;none&#39;" in text
    assert not re.search(r"""<[^>]+\s(?:src|href)=["'](?!#)""", text)


def test_names_from_outside_are_only_text(page):
    text = page.read_text(encoding="utf-8")
    assert "<img" not in text
    assert text.count("</script>") == 3


@pytest.mark.parametrize("is_dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("width", [390, 1400])
def test_it_draws_all_plots_without_a_word_on_the_console(width, is_dark, page, window, tmp_path):
    window.open(page, width, 1600, is_dark=is_dark)
    assert window.console == []
    n_plots = sum(len(result.plots) for result in report().results)
    assert window.run("Number(document.documentElement.dataset.drawn)") == n_plots
    widths = window.run("[...document.querySelectorAll('canvas')].map((one) => one.clientWidth)")
    assert len(widths) == n_plots
    assert all(250 < one < width for one in widths)
    assert window.run("document.documentElement.scrollWidth") <= width
    window.picture(tmp_path / "page.png")


def test_a_script_that_fails_is_seen(page, window, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text(encoding="utf-8").replace('id="plots"', 'id="other"'))
    window.open(broken, 800, 600)
    assert window.console != []


def test_pictures_are_small_and_stand_alone():
    for result in report().results:
        for plot in result.plots:
            svg = picture_svg(plot)
            assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
            assert len(svg) < 12_000
            assert "nan" not in svg


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
