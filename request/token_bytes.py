"""The bytes each token id stands for, so that text can be decoded a token at a time.

Owns the reading of a tokenizer's decoder: byte-level BPE (SmolLM2, Llama 3, Qwen) and SentencePiece
with byte fallback (Llama 2, Mistral). Any other kind is refused when the tokenizer loads: decoding
it by guess would corrupt text silently. Called by `Tokenizer` and `IncrementalDetokenizer`.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

import tokenizers

from radixroute.request.errors import TokenizerError

_BYTE_PIECE = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_SPACE_PIECE = "\u2581"


class TokenBytes:
    """Token id -> bytes of output. Fills its table as ids are seen; entries never change."""

    def __init__(self, backend: tokenizers.Tokenizer, spec: Mapping[str, Any]) -> None:
        self._backend = backend
        self._piece_bytes, self.strips_first_space = _decoder_of(spec.get("decoder"))
        # As `skip_special_tokens` of the backend: special tokens are no text.
        self._bytes_by_id: dict[int, bytes] = {
            token["id"]: b"" for token in spec.get("added_tokens", ()) if token["special"]
        }

    def __getitem__(self, token_id: int) -> bytes:
        """Bytes of one token; none for special tokens and for ids the tokenizer does not know."""
        known = self._bytes_by_id.get(token_id)
        if known is None:
            piece = self._backend.id_to_token(token_id)
            known = b"" if piece is None else self._piece_bytes(piece)
            self._bytes_by_id[token_id] = known
        return known


def _decoder_of(spec: Mapping[str, Any] | None) -> tuple[Callable[[str], bytes], bool]:
    """How pieces become bytes, and whether the text's first space is an artefact."""
    steps = _steps_of(spec)
    kinds = [step["type"] for step in steps]
    if kinds == ["ByteLevel"]:
        return _byte_level, False
    if set(kinds) <= {"Replace", "ByteFallback", "Fuse", "Strip"} and "ByteFallback" in kinds:
        _require_space_piece(steps)
        return _sentence_piece, "Strip" in kinds
    raise TokenizerError(
        f"decoder {'+'.join(kinds) or 'none'} is not supported; "
        "byte-level BPE and SentencePiece with byte fallback are"
    )


def _steps_of(spec: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    if spec is None:
        return []
    return list(spec["decoders"]) if spec["type"] == "Sequence" else [spec]


def _require_space_piece(steps: list[Mapping[str, Any]]) -> None:
    for step in steps:
        if step["type"] == "Replace":
            pattern, content = step["pattern"].get("String"), step["content"]
            if (pattern, content) != (_SPACE_PIECE, " "):
                raise TokenizerError("the decoder replaces something else than U+2581 by a space")
        if step["type"] == "Strip":
            stripped = (step["content"], step["start"], step["stop"])
            if stripped != (" ", 1, 0):
                raise TokenizerError("the decoder strips something else than one leading space")


def _byte_level(piece: str) -> bytes:
    # As the backend: a piece with any character outside the alphabet is text as it stands.
    try:
        return bytes(_BYTE_BY_CHAR[char] for char in piece)
    except KeyError:
        return piece.encode()


def _sentence_piece(piece: str) -> bytes:
    match = _BYTE_PIECE.fullmatch(piece)
    if match is not None:
        return bytes((int(match[1], 16),))
    return piece.replace(_SPACE_PIECE, " ").encode()


def _byte_alphabet() -> dict[str, int]:
    """GPT-2's alphabet: printable bytes stand for themselves, the others follow from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    hidden = [byte for byte in range(0x100) if byte not in printable]
    by_char = {chr(byte): byte for byte in printable}
    by_char.update({chr(0x100 + i): byte for i, byte in enumerate(hidden)})
    return by_char


_BYTE_BY_CHAR = _byte_alphabet()
