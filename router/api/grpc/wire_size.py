"""Parts of a message before anything of it is parsed: how large one is, one field alone.

Pure. Looks at a bounded number of fields, and at no content.
"""

from dataclasses import dataclass

# A client sends each field once; whoever repeats them beyond this is not looked after.
MAX_FIELDS = 64
_BYTES = 2  # wire type of a field with its number of bytes in front


def bytes_beside(data: bytes, path: tuple[int, ...]) -> int:
    """Bytes of a message without those of one field of bytes; `path`: its numbers, outermost first.

    Whatever cannot be read counts as a whole: parsing will refuse it, or it is large in earnest.
    """
    return len(data) - _field_bytes(memoryview(data), path)


@dataclass(frozen=True, slots=True)
class CutOut:
    """One field of bytes, and the message without it."""

    number: int
    content: bytes
    rest: bytes


def cut_out(data: bytes, numbers: frozenset[int]) -> CutOut | None:
    """The one field with one of these numbers. None: there is none, or there are several."""
    view = memoryview(data)
    found: tuple[int, int, int, int] | None = None
    at = 0
    for _ in range(MAX_FIELDS):
        if at >= len(view):
            break
        try:
            tag, start = _varint(view, at)
            end, content = _field_end(view, start, tag & 7)
        except (ValueError, IndexError):
            return None
        if end > len(view) or (tag >> 3 in numbers and (tag & 7 != _BYTES or found is not None)):
            return None
        if tag >> 3 in numbers:
            found = (tag >> 3, at, content, end)
        at = end
    if found is None or at < len(view):
        return None
    number, begin, content, end = found
    return CutOut(number, bytes(view[content:end]), bytes(view[:begin]) + bytes(view[end:]))


def _field_bytes(data: memoryview, path: tuple[int, ...]) -> int:
    if not path:
        return len(data)
    found = at = 0
    for _ in range(MAX_FIELDS):
        if at >= len(data):
            return found
        try:
            tag, at = _varint(data, at)
            end, content = _field_end(data, at, tag & 7)
        except (ValueError, IndexError):
            return 0
        if end > len(data):
            return 0
        if tag == path[0] << 3 | _BYTES:
            found += _field_bytes(data[content:end], path[1:])
        at = end
    return 0


def _field_end(data: memoryview, at: int, kind: int) -> tuple[int, int]:
    """Where a field ends, and where its content begins."""
    match kind:
        case 0:  # a varint
            return _varint(data, at)[1], at
        case 1:  # 64 bits
            return at + 8, at
        case 2:  # bytes with their number in front
            n_bytes, start = _varint(data, at)
            return start + n_bytes, start
        case 5:  # 32 bits
            return at + 4, at
        case _:
            raise ValueError(kind)


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    """A number and where it ends."""
    value = 0
    for shift in range(0, 64, 7):
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise ValueError("a number without an end")
