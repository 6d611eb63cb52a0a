"""Debian's Chromium without a window: a picture of a page, what its script drew, its complaints.

No window of it is narrower than 500 pixels, so the page stands in a frame, which may be.
"""

import html
import json
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome")
LIMIT_S = 60


_FRAME = """<!DOCTYPE html><meta charset="utf-8"><style>body{{margin:0}}iframe{{border:0}}</style>
<body><iframe width="{width}" height="{height}" srcdoc="{page}"></iframe><script>
const frame = document.querySelector("iframe");
frame.onload = () => {{
  const page = frame.contentDocument.documentElement;
  const widths = [...page.querySelectorAll("canvas")].map((one) => one.clientWidth);
  document.body.dataset.seen = JSON.stringify(
    [Number(page.dataset.drawn || 0), page.scrollWidth - page.clientWidth, widths]);
}};
</script>"""


@dataclass(frozen=True)
class Look:
    """What came of one look at a page."""

    console: tuple[str, ...]  # lines of its console
    n_drawn: int  # plots, as its script counted them
    overflow: int  # pixels that it is too wide
    canvases: tuple[int, ...]  # their widths, pixels
    picture: Path


def chromium():
    """The program; the test is skipped where there is none."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None:
        pytest.skip("no chromium: apt-get install chromium")
    return found


def look(page: Path, picture: Path, *, width: int, height: int, is_dark: bool) -> Look:
    frame = picture.with_suffix(".frame.html")
    text = html.escape(page.read_text(encoding="utf-8"))
    frame.write_text(_FRAME.format(width=width, height=height, page=text), encoding="utf-8")
    common = (
        chromium(), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars",
        "--disable-background-networking", "--no-first-run", "--enable-logging=stderr",
        f"--user-data-dir={picture.parent / (picture.stem + '-profile')}",
        f"--blink-settings=preferredColorScheme={0 if is_dark else 1}",
        f"--window-size={width},{height}", "--virtual-time-budget=4000",
    )  # fmt: skip
    done = subprocess.run(
        (*common, f"--screenshot={picture}", "--dump-dom", frame.as_uri()),
        capture_output=True,
        text=True,
        timeout=LIMIT_S,
        check=True,
    )
    console = tuple(line for line in done.stderr.splitlines() if re.search(r":CONSOLE[:(]", line))
    told = re.search(r'data-seen="([^"]*)"', done.stdout)
    assert told is not None, done.stderr
    drawn, overflow, widths = json.loads(html.unescape(told[1]))
    return Look(console, drawn, overflow, tuple(widths), picture)
