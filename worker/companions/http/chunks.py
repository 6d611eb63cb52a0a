"""Whole chunks of an HTTP/1.1 body, cut out of what one read of a socket brought. Pure.

A server that streams writes a chunk at a time, and a token is one: most reads need no parser.
"""

from typing import Final

_END: Final = b"\r\n"
_MOST_BYTES: Final = 4096  # of a chunk that is looked up
_MOST_DIGITS: Final = 5  # of a size; longer chunks are the parser's


def _heads() -> dict[int, bytes]:
    heads = {}
    for size in range(1, _MOST_BYTES):
        head = b"%x\r\n" % size
        heads[len(head) + size + len(_END)] = head
    return heads


# By the bytes of a read: how it begins if it is one chunk and ends as one. There is one way.
HEADS: Final = _heads()


def whole_chunks(data: bytes) -> tuple[list[bytes], int]:
    """What the whole chunks hold that these bytes begin with, and how many bytes those are.

    Only for bytes that follow a whole chunk. The last chunk, which is empty, and whatever is
    written in another way than most servers do is left.
    """
    chunks: list[bytes] = []
    at = 0
    while at < len(data):
        end_of_head = data.find(_END, at, at + _MOST_DIGITS + len(_END))
        size = -1 if end_of_head < 0 else _size(data[at:end_of_head])
        start = end_of_head + len(_END)
        if size <= 0 or data[start + size : start + size + 2] != _END:
            break
        chunks.append(data[start : start + size])
        at = start + size + len(_END)
    return chunks, at


def _size(digits: bytes) -> int:
    """-1: not as it is written here, too."""
    try:
        size = int(digits, 16)
    except ValueError:
        return -1
    return size if b"%x" % size == digits else -1
