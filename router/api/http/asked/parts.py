"""Parts: whether a chat has more in it than text, and how long its prompt may be. Pure.

Looks at the bytes of a list of messages without making anything of them: quotes inside a text are
escaped in JSON, so a name with its quotes is never a part of one.
"""

import re
from typing import Final

_TYPE: Final = b'"type"'
# The name of a part's type, and it is text; or no name at all, for no colon follows.
_TEXT_TYPE: Final = re.compile(rb'"type"\s*(:\s*"text"|[^\s:])')
_SPOKEN_TYPE: Final = re.compile(rb'"type"\s*(:\s*"(text|function)"|[^\s:])')
# Of messages: calls of tools and their answers, sound. Absent, null or empty they say nothing.
_NAMES: Final = (b'"tool_calls"', b'"tool_call_id"', b'"function_call"', b'"audio"')
_NOTHING: Final = re.compile(rb"\s*:\s*(null|\[\s*\])|\s*[^\s:]")
_INLINE: Final = b'"data:'  # an image or a sound, as text of base64
PART_TOKENS: Final = 1024  # of one such: what a picture of a million points comes to
BYTES_PER_TOKEN: Final = 4  # of text, at a guess


def is_plain(messages: bytes) -> bool:
    """All that templates here read. O(bytes)."""
    return _are_types(messages, _TEXT_TYPE) and not any(_says(messages, name) for name in _NAMES)


def is_text(messages: bytes) -> bool:
    """Calls of tools may be in it, but nothing that is seen or heard. O(bytes)."""
    return _are_types(messages, _SPOKEN_TYPE)


def _are_types(messages: bytes, wanted: "re.Pattern[bytes]") -> bool:
    at = messages.find(_TYPE)
    while at >= 0:
        if wanted.match(messages, at) is None:
            return False
        at = messages.find(_TYPE, at + len(_TYPE))
    return True


def _says(messages: bytes, name: bytes) -> bool:
    at = messages.find(name)
    while at >= 0:
        if _NOTHING.match(messages, at + len(name)) is None:
            return True
        at = messages.find(name, at + len(name))
    return False


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
