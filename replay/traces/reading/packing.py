"""A trace file as rows: layers taken off one after the other, then lines, JSON items or Parquet.

Owns what a file may be packed in, and in which order that is looked for. Everything is told by
content: names lie. Knows no format of rows.
"""

import codecs
import io
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.reading.archives import HEAD_BYTES, unpacked, with_random_access
from radixroute.replay.traces.reading.compression import Opener, decompressed
from radixroute.replay.traces.reading.parquet import MARK, parquet_rows
from radixroute.replay.traces.reading.strangers import stranger

_MAX_LAYERS = 5  # a tar in a zip in a gzip is three; more is a joke, or an attack
_UTF16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


@dataclass(frozen=True, slots=True, eq=False)
class FileRows:
    """Rows that are not blank, with their numbers from 1."""

    rows: Iterator[tuple[int, bytes]]
    called: str  # what one is: line, item or row


@contextmanager
def rows_of(path: Path, is_header: Callable[[bytes], bool]) -> Iterator[FileRows]:
    """`is_header`: whether columns of these names are to be given as CSV. Raises `BadTrace`."""
    if path.is_dir():
        raise BadTrace("is a directory: name a file")
    opener = _innermost(_opener(path))
    with opener() as file:
        head = _head(opener)
        if head.startswith(MARK):
            rows = parquet_rows(with_random_access(file), is_header)
            yield FileRows(enumerate(rows, 1), "row")
        elif _is_array(head):
            yield FileRows(enumerate(_items(file.read()), 1), "item")
        elif head.startswith(_UTF16):
            with io.TextIOWrapper(file, "utf-16") as text:
                yield FileRows(_not_blank(_recoded(text)), "line")
        else:
            yield FileRows(_not_blank(_unmarked(file)), "line")


def _opener(path: Path) -> Opener:
    if path.exists() and not path.is_file():  # a pipe: it can be read once
        data = path.read_bytes()
        return lambda: io.BytesIO(data)
    return lambda: path.open("rb")


def _innermost(opener: Opener) -> Opener:
    for _ in range(_MAX_LAYERS + 1):
        head = _head(opener)
        what = stranger(head)
        if what is not None:
            raise BadTrace(f"it is {what}")
        inner = decompressed(head, opener) or unpacked(head, opener)
        if inner is None:
            return opener
        opener = inner
    raise BadTrace(f"it is packed more than {_MAX_LAYERS} times")


def _head(opener: Opener) -> bytes:
    with opener() as file:
        head = b""
        while len(head) < HEAD_BYTES:
            more = file.read(HEAD_BYTES - len(head))
            if not more:
                break
            head += more
        return head


def _is_array(head: bytes) -> bool:
    return head.removeprefix(codecs.BOM_UTF8).lstrip().startswith(b"[")


def _items(data: bytes) -> Iterator[bytes]:
    """Of a JSON array, each as it is written."""
    try:
        items = msgspec.json.decode(data.removeprefix(codecs.BOM_UTF8), type=list[msgspec.Raw])
    except (msgspec.DecodeError, UnicodeDecodeError) as broken:
        raise BadTrace(f"it begins as a JSON array and is none: {broken}") from broken
    yield from map(bytes, items)


def _unmarked(file: Iterable[bytes]) -> Iterator[bytes]:
    """Lines without the mark that some programs put before UTF-8."""
    is_first = True
    for line in file:
        yield line.removeprefix(codecs.BOM_UTF8) if is_first else line
        is_first = False


def _recoded(text: Iterable[str]) -> Iterator[bytes]:
    """Lines of UTF-16 as UTF-8."""
    try:
        for line in text:
            yield line.encode()
    except UnicodeError as broken:
        raise BadTrace("it begins as text in UTF-16 and is none") from broken


def _not_blank(lines: Iterable[bytes]) -> Iterator[tuple[int, bytes]]:
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if text:
            yield number, text
