"""Plain texts: what tokens say wherever they stand. Pure."""

from typing import Final

from radixroute.request.tokenizer import Tokenizer

MAX_PLAIN: Final = 16_384  # runs of tokens whose text is kept


class PlainTexts:
    """Only of tokens that make whole characters together: these are the same text wherever they
    stand."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pieces = tokenizer.token_bytes
        self._texts: dict[tuple[int, ...], str | None] = {}

    def __len__(self) -> int:
        return len(self._texts)

    def of(self, token_ids: tuple[int, ...]) -> str | None:
        """None: it depends on what stands around them."""
        text = self._texts.get(token_ids)
        return self._add(token_ids) if text is None else text

    def _add(self, token_ids: tuple[int, ...]) -> str | None:
        if len(self._texts) >= MAX_PLAIN:
            self._texts.clear()
        try:
            text = b"".join([self._pieces[token_id] for token_id in token_ids]).decode()
        except UnicodeDecodeError:
            return None
        self._texts[token_ids] = text
        return text
