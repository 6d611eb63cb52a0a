"""Prompts made of pieces of text that exist only as numbers, and the block ids they lead to.

Owns the numbering of blocks: two prompts share exactly the ids of the blocks up to which they are
token for token equal, the partial last one included. A piece's tokens are its number and their
place in it; nothing is ever text.
"""

from typing import NamedTuple

from radixroute.replay.traces.draft import TraceDraft
from radixroute.replay.traces.trace import Trace

BLOCK = 64  # tokens of a block id; every engine block size up to it that is a power of 2 divides it
_NONE = -1


class Piece(NamedTuple):
    """The first `tokens` tokens of one text."""

    text: int
    tokens: int


class Pieces:
    """Makes texts and traces of them. `add` takes requests in any order of arrival."""

    def __init__(self) -> None:
        self._n_texts = 0
        self._draft = TraceDraft(BLOCK)
        # (id of the block before, what the block holds) -> id
        self._ids: dict[tuple[int, tuple[tuple[int, int, int], ...]], int] = {}

    def __len__(self) -> int:
        return len(self._draft)

    def text(self, tokens: int) -> Piece:
        """A text that no other has a token in common with."""
        self._n_texts += 1
        return Piece(self._n_texts - 1, tokens)

    def add(
        self,
        arrival_ns: int,
        prompt: tuple[Piece, ...],
        output_tokens: int,
        *,
        after: int | None = None,
    ) -> int:
        """A request's number, for others' `after`. With one, `arrival_ns` counts from its end."""
        tokens = (sum(piece.tokens for piece in prompt), output_tokens)
        return self._draft.add(arrival_ns, tokens, self.ids(prompt), after=after)

    def ids(self, prompt: tuple[Piece, ...]) -> list[int]:
        """Block ids of a prompt. O(its blocks and pieces)."""
        found = []
        before = _NONE
        for spans in _blocks(prompt):
            before = self._ids.setdefault((before, spans), len(self._ids))
            found.append(before)
        return found

    def trace(self, name: str) -> Trace:
        return self._draft.trace(name)


def _blocks(prompt: tuple[Piece, ...]) -> list[tuple[tuple[int, int, int], ...]]:
    """For each block the (text, first token, tokens) it holds."""
    blocks = []
    spans: list[tuple[int, int, int]] = []
    left = BLOCK
    for text, tokens in prompt:
        start = 0
        while start < tokens:
            n = min(left, tokens - start)
            spans.append((text, start, n))
            start += n
            left -= n
            if not left:
                blocks.append(tuple(spans))
                spans, left = [], BLOCK
    return [*blocks, tuple(spans)] if spans else blocks
