"""The pages for people: what they link to exists, what they tell to type can be typed."""

import re
import unicodedata
from pathlib import Path
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("[a-z]*/README.md")],
    key=lambda path: path.relative_to(ROOT),
)
PICTURES = sorted(path for path in (ROOT / "docs" / "images").rglob("*") if path.is_file())
FRONT_PAGE_LINES = 150
PICTURE_BYTES = 200 * 1024
_FENCE = re.compile(r"^```.*?^```", re.M | re.S)
_CODE = re.compile(r"`[^`\n]*`")
_LINK = re.compile(r"\[[^\]]*\]\(([^()\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+)$", re.M)
_MAKE = re.compile(r"(?:^|`)make ([a-z][a-z0-9-]*)", re.M)


def _name(path):
    return str(path.relative_to(ROOT))


def test_the_front_page_is_short():
    lines = (ROOT / "README.md").read_text().count("\n")
    assert lines <= FRONT_PAGE_LINES, f"README.md has {lines} lines: move some of it to docs/"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_local_link_leads_somewhere(page):
    broken = [link for link in _links(page) if not _exists(page, link)]
    assert broken == [], f"{_name(page)} links to what is not there"


@pytest.mark.parametrize("page", PAGES, ids=_name)
def test_every_make_target_named_exists(page):
    targets = set(re.findall(r"^([a-z][a-z0-9-]*):", (ROOT / "Makefile").read_text(), re.M))
    commands = "\n".join([*_FENCE.findall(page.read_text()), *_CODE.findall(page.read_text())])
    assert set(_MAKE.findall(commands)) - targets == set()


@pytest.mark.parametrize("picture", PICTURES, ids=_name)
def test_every_picture_is_shown_and_small(picture):
    shown = {(page.parent / link).resolve() for page in PAGES for link in _links(page)}
    assert picture in shown, f"no page shows {_name(picture)}"
    assert picture.stat().st_size <= PICTURE_BYTES
    if picture.suffix == ".svg":
        ElementTree.parse(picture)


def test_the_pages_are_looked_at():
    names = {_name(page) for page in PAGES}
    assert {"README.md", "docs/concepts.md", "docs/benchmarks.md", "docs/events.md"} <= names
    assert sum(len(_links(page)) for page in PAGES) > 30


def _links(page):
    """Targets of links and images that are no addresses of the web."""
    prose = _CODE.sub("", _FENCE.sub("", page.read_text()))
    return [link for link in _LINK.findall(prose) if not re.match(r"[a-z]+:", link)]


def _exists(page, link):
    path, _, anchor = link.partition("#")
    target = (page.parent / path).resolve() if path else page
    if not target.exists():
        return False
    return not anchor or anchor in {_slug(one) for one in _HEADING.findall(target.read_text())}


def _slug(heading):
    """The anchor that GitHub gives a heading."""
    kept = [c for c in heading.lower() if c in " -_" or unicodedata.category(c)[0] in "LN"]
    return "".join(kept).replace(" ", "-")
