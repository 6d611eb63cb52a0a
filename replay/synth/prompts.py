"""Prompts made of pieces of text that exist only as numbers, and the block ids they lead to.

Owns the numbering of blocks: two prompts share exactly the ids of the blocks up to which they are
token for token equal, the partial last one included. A piece's tokens are its number and their
place in it; nothing is ever text.
"""

from array import array
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

from radixroute.replay.traces.draft import TraceDraft
from radixroute.replay.traces.trace import Trace

BLOCK = 64  # tokens of a block id; every engine block size up to it that is a power of 2 divides it
_NONE = -1


class Piece(NamedTuple):
    """The first `tokens` tokens of one text."""

    text: int
    tokens: int


_Spans: TypeAlias = tuple[tuple[int, int, int], ...]  # (text, first token, tokens) of a block


class Context(NamedTuple):
    """A prompt that others go on from: what it has is not looked at again. Never changed."""

    tokens: int
    ids: "array[int]"  # of its full blocks
    spans: _Spans  # what the block holds that it does not fill


EMPTY = Context(0, array("q"), ())


class Pieces:
    """Makes texts and traces of them. `add` takes requests in any order of arrival."""

    def __init__(self) -> None:
        self._n_texts = 0
        self._draft = TraceDraft(BLOCK)
        # (id of the block before, what the block holds) -> id
        self._ids: dict[tuple[int, _Spans], int] = {}

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
        return self._ids_of(self.grown(EMPTY, *prompt))

    def grown(self, context: Context, *pieces: Piece) -> Context:
        """The context with these after it. O(blocks); only what is added is looked at closely."""
        full, spans = _blocks(pieces, context.spans)
        ids = array("q", context.ids)
        for block in full:
            ids.append(self._id(ids[-1] if ids else _NONE, block))
        return Context(context.tokens + sum(piece.tokens for piece in pieces), ids, spans)

    def add_grown(
        self,
        arrival_ns: int,
        context: Context,
        output_tokens: int,
        *,
        after: Sequence[int] = (),
    ) -> int:
        """As `add`, with all of a context as the prompt. `after`: all that it waits for."""
        tokens = (context.tokens, output_tokens)
        return self._draft.add(arrival_ns, tokens, self._ids_of(context), after=after or None)

    def _ids_of(self, context: Context) -> list[int]:
        ids = context.ids.tolist()
        if context.spans:
            ids.append(self._id(ids[-1] if ids else _NONE, context.spans))
        return ids

    def _id(self, before: int, spans: _Spans) -> int:
        return self._ids.setdefault((before, spans), len(self._ids))

    def trace(self, name: str) -> Trace:
        return self._draft.trace(name)


def _blocks(pieces: Sequence[Piece], begun: _Spans) -> tuple[list[_Spans], _Spans]:
    """What each full block holds, the first with what was `begun`; and what the last one has."""
    blocks = []
    spans = list(begun)
    left = BLOCK - sum(n for _, _, n in begun)
    for text, tokens in pieces:
        start = 0
        while start < tokens:
            n = min(left, tokens - start)
            spans.append((text, start, n))
            start += n
            left -= n
            if not left:
                blocks.append(tuple(spans))
                spans, left = [], BLOCK
    return blocks, tuple(spans)
