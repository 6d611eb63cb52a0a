"""Texts: token ids for what an engine tells as text alone, so that the rest of a worker sees ids.

The same bytes, not always the same tokens: a piece as long as one token is that token, longer ones
are cut at the longest that fit. So the text is what the engine said, and nobody may take the ids
for those that it drew.
"""

from collections.abc import Iterable

from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.errors import MalformedMessage


class Texts:
    """One tokenizer's tokens by their bytes: 150,000 of them take a quarter of a second to list.
    Immutable."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        pieces = tokenizer.token_bytes
        self._ids: dict[bytes, int] = {}
        for token_id in range(tokenizer.vocab_size):
            data = pieces[token_id]
            if data:
                self._ids.setdefault(data, token_id)
        self._longest = max((len(data) for data in self._ids), default=0)

    def ids(self, text: str) -> tuple[int, ...]:
        """Tokens that make this text. Raises `MalformedMessage` where none do."""
        return tuple(self._cut(text.encode()))

    def _cut(self, data: bytes) -> Iterable[int]:
        start = 0
        while start < len(data):
            for end in range(min(len(data), start + self._longest), start, -1):
                token_id = self._ids.get(data[start:end])
                if token_id is not None:
                    break
            else:
                raise MalformedMessage("a text has bytes that no token stands for")
            yield token_id
            start = end
