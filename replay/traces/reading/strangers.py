"""What a file is that is no trace, told by its first bytes, with what to do about it. Pure."""

import re

_LFS = b"version https://git-lfs.github.com/spec/"
_ANNEX = (b"/annex/objects/", b"../.git/annex/", b".git/annex/")
_BY_START = {
    b"%PDF-": "a PDF",
    b"7z\xbc\xaf\x27\x1c": "a 7z archive: unpack it",
    b"Rar!\x1a\x07": "a RAR archive: unpack it",
    b"\x04\x22\x4d\x18": "compressed by LZ4: unpack it",
    b"\x1f\x9d": "compressed by `compress` (.Z): unpack it",
    b"\xff\x06\x00\x00sNaPpY": "compressed by Snappy: unpack it",
    b"ARROW1": "an Arrow file: write it as Parquet, CSV or JSON lines",
    b"FEA1": "a Feather file: write it as Parquet, CSV or JSON lines",
    b"SQLite format 3\x00": "an SQLite database: export a table as CSV",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an old office document: export it as CSV",
    b"\x93NUMPY": "a numpy array: write it as CSV or JSON lines",
    b"\x89HDF": "an HDF5 file: write it as CSV or JSON lines",
    b"\x7fELF": "a program",
}


def stranger(head: bytes) -> str | None:
    """What it is, as the end of "it is ..."; None: nothing known here."""
    if head.startswith(_LFS):
        size = re.search(rb"^size (\d{1,18})$", head, re.MULTILINE)
        of = f" of {int(size.group(1)):,} bytes" if size else ""
        return (
            f"a Git LFS pointer, not the file itself{of}: run `git lfs pull` in its repository, or"
            " download the file"
        )
    if any(head.startswith(mark) for mark in _ANNEX):
        return "a git-annex pointer, not the file itself: run `git annex get` in its repository"
    if head.lstrip()[:14].lower().startswith((b"<!doctype html", b"<html")):
        return "a web page: download the file itself (the raw one)"
    if head.lstrip().startswith(b"<?xml"):
        return "XML: write it as CSV or JSON lines"
    return next((what for start, what in _BY_START.items() if head.startswith(start)), None)
