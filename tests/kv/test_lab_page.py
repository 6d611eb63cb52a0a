"""The lab's page in a real browser: it draws every plot, says nothing on the console, and fits."""

import hashlib
import re
import struct

import pytest

from radixroute.kv.lab.page.html import page_html
from radixroute.kv.lab.page.library import SHA256, VERSION, library_file
from radixroute.kv.lab.page.picture import picture_svg
from tests.kv.browser import look
from tests.kv.reports import report

MAX_BYTES = 5_000_000


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    path = tmp_path_factory.mktemp("lab") / "index.html"
    path.write_text(page_html(report()), encoding="utf-8")
    return path


def test_the_library_is_the_one_that_is_pinned():
    assert hashlib.sha256(library_file()).hexdigest() == SHA256
    assert f"Chart.js v{VERSION}".encode() in library_file()[:100]


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
def test_it_draws_all_plots_without_a_word_on_the_console(width, is_dark, page, tmp_path):
    seen = look(page, tmp_path / "page.png", width=width, height=1600, is_dark=is_dark)
    assert seen.console == ()
    n_plots = sum(len(result.plots) for result in report().results)
    assert seen.n_drawn == len(seen.canvases) == n_plots
    assert seen.overflow <= 0
    assert all(250 < one < width for one in seen.canvases)
    head = seen.picture.read_bytes()[:24]
    assert struct.unpack(">II", head[16:24]) == (width, 1600)


def test_a_script_that_fails_is_seen(page, tmp_path):
    broken = tmp_path / "broken.html"
    broken.write_text(page.read_text(encoding="utf-8").replace('id="plots"', 'id="other"'))
    seen = look(broken, tmp_path / "broken.png", width=800, height=600, is_dark=False)
    assert seen.console != ()


def test_pictures_are_small_and_stand_alone():
    for result in report().results:
        for plot in result.plots:
            svg = picture_svg(plot)
            assert svg.startswith('<svg xmlns="http://www.w3.org/2000/svg"')
            assert len(svg) < 12_000
            assert "nan" not in svg
