"""Parts: whether a chat has more in it than text, and how long its prompt may be. Pure.

Looks at the bytes of a list of messages without making anything of them: quotes inside a text are
escaped in JSON, so a name with its quotes is never a part of one.
"""

import re
from collections.abc import Iterator
from typing import Final

# Names whose values may be more than text: a part's type, calls of tools and their answers, sound.
_NAME: Final = re.compile(rb'"(type|tool_calls|tool_call_id|function_call|audio)"\s*:\s*')
_NOTHING: Final = re.compile(rb"null|\[\s*\]")
_PLAIN: Final = (b'"text"',)
_SPOKEN: Final = (b'"text"', b'"function"')  # calls of tools, too
_INLINE: Final = b'"data:'  # an image or a sound, as text of base64
PIECE_BYTES: Final = 64 * 1024  # a millisecond or two, whatever is in it
_NAME_BYTES: Final = 64  # a name that begins in one piece may end in the next
PART_TOKENS: Final = 1024  # of one such: what a picture of a million points comes to
BYTES_PER_TOKEN: Final = 4  # of text, at a guess


def is_plain(messages: bytes) -> bool:
    """All that templates here read. O(bytes)."""
    return all(plain_pieces(messages))


def plain_pieces(messages: bytes) -> Iterator[bool]:
    """The same, piece by piece: each is looked at when it is asked for."""
    for start in range(0, len(messages), PIECE_BYTES):
        yield _is_plain(messages, start, start + PIECE_BYTES + _NAME_BYTES)


def _is_plain(messages: bytes, start: int, end: int) -> bool:
    for found in _NAME.finditer(messages, start, end):
        if found[1] == b"type":
            if not messages.startswith(_PLAIN, found.end()):
                return False
        elif _NOTHING.match(messages, found.end()) is None:
            return False
    return True


def is_text(messages: bytes) -> bool:
    """Calls of tools may be in it, but nothing that is seen or heard. O(bytes)."""
    types = (found for found in _NAME.finditer(messages) if found[1] == b"type")
    return all(messages.startswith(_SPOKEN, found.end()) for found in types)


def guessed_tokens(*values: bytes) -> int:
    """Of what makes a prompt, as JSON; inline pictures are no text. O(bytes)."""
    n_bytes = n_parts = 0
    for value in values:
        n_bytes += len(value)
        at = value.find(_INLINE)
        while at >= 0:
            end = value.find(b'"', at + 1)
            end = len(value) if end < 0 else end
            n_bytes -= end - at
            n_parts += 1
            at = value.find(_INLINE, end)
    return max(1, n_bytes // BYTES_PER_TOKEN + n_parts * PART_TOKENS)
