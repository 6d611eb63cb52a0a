"""A backend's ids without holding the interpreter: it works with the lock let go of.

Owns no state. Called by `Tokenizer` and `ControlTokens`.
"""

from collections.abc import Callable, Iterable
from typing import Protocol, TypeAlias

import numpy as np
import tokenizers

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.request.pacing import IDS_A_TURN, MESSAGES_A_TURN, Pause, in_turns, no_pause

# Is told how many tokens there are; may raise `InvalidRequest`.
LengthCheck: TypeAlias = Callable[[int], None]
# Of a prompt that are encoded at once: a tenth of a second, some 20,000 ids.
PIECE_CHARS = 1 << 16
ID_BYTES = 4


class Recall(Protocol):
    """What is known of a prompt's pieces. Asked piece by piece, from the first one on."""

    def next(self, piece: str) -> tuple[bytes, bytes | None]:
        """Its name, and its ids as packed 32-bit numbers; None: not known."""

    def learn(self, name: bytes, packed: bytes) -> None:
        """The ids of one that was not known."""


def any_length(n_tokens: int) -> None:
    """For whoever takes any."""


def ids_of(
    backend: tokenizers.Tokenizer,
    text: str,
    *,
    add_special_tokens: bool = False,
    check: LengthCheck = any_length,
    pause: Pause = no_pause,
) -> list[int]:
    """Ids of a text; `check` comes before any is unpacked."""
    # A batch of one: `encode` keeps the interpreter's lock to its end, and writes offsets down.
    found = backend.encode_batch_fast([text], add_special_tokens=add_special_tokens)[0]
    pause()
    check(len(found))
    ids: list[int] = found.ids
    return ids


def unpacked(ids: list[int], pause: Pause) -> Tokens:
    """Uses `ids` up: freeing a million numbers at once takes as long as making them."""
    if len(ids) <= IDS_A_TURN:
        return as_tokens(ids)
    tokens = np.empty(len(ids), np.uint32)
    while ids:
        pause()
        turn = ids[-IDS_A_TURN:]
        del ids[-IDS_A_TURN:]
        tokens[len(ids) : len(ids) + len(turn)] = as_tokens(turn)
    return tokens


# Texts that show what a backend puts around each.
_PROBES = ("a", "hello world", "42, and so on.")


def around(backend: tokenizers.Tokenizer) -> tuple[Tokens, Tokens] | None:
    """Ids that a backend's last step puts before and after those of a text alone, whatever it is.

    None: what it does is not that, or cannot be told apart from it.
    """
    frame = ids_of(backend, "", add_special_tokens=True)
    places = set(range(len(frame) + 1))
    for text in _PROBES:
        own = ids_of(backend, text)
        whole = ids_of(backend, text, add_special_tokens=True)
        places &= {at for at in places if frame[:at] + own + frame[at:] == whole}
    if len(places) != 1:
        return None
    at = places.pop()
    return as_tokens(frame[:at]), as_tokens(frame[at:])


def tokens_of_pieces(
    backend: tokenizers.Tokenizer,
    pieces: Iterable[str],
    *,
    recall: Recall | None = None,
    check: LengthCheck = any_length,
    pause: Pause = no_pause,
) -> Tokens:
    """Ids of a text that was cut where the backend begins anew (`ControlTokens.pieces`).

    What `recall` knows is not encoded again. The last piece has no end yet, as the text may go on
    in another prompt: it is neither asked for nor learned. `check` is told the number of tokens so
    far each time some are encoded, and at the end.
    """
    work = _Pieces(backend, recall, check, pause)
    last: str | None = None
    for piece in in_turns(pieces, MESSAGES_A_TURN, pause):
        if last is not None:
            work.add(last)
        last = piece
    return work.finish(last or "")


class _Pieces:
    """The pieces of one text on their way to ids."""

    def __init__(
        self,
        backend: tokenizers.Tokenizer,
        recall: Recall | None,
        check: LengthCheck,
        pause: Pause,
    ) -> None:
        self._backend, self._recall = backend, recall
        self._check, self._pause = check, pause
        self._packed: list[bytes] = []
        # Those to be encoded: where their ids go, what they are called.
        self._texts: list[str] = []
        self._places: list[tuple[int, bytes]] = []
        self._n_chars = self._n_tokens = 0

    def add(self, piece: str) -> None:
        name, packed = (b"", None) if self._recall is None else self._recall.next(piece)
        self._put(piece, name, packed)

    def finish(self, piece: str) -> Tokens:
        self._put(piece, b"", None)
        self._encode()
        self._check(self._n_tokens)
        return np.frombuffer(b"".join(self._packed), np.dtype("<u4"))

    def _put(self, piece: str, name: bytes, packed: bytes | None) -> None:
        if packed is not None:
            self._packed.append(packed)
            self._n_tokens += len(packed) // ID_BYTES
            return
        self._places.append((len(self._packed), name))
        self._packed.append(b"")
        self._texts.append(piece)
        self._n_chars += len(piece)
        if self._n_chars >= PIECE_CHARS:
            self._encode()

    def _encode(self) -> None:
        """What was collected, in one go: the lock is let go of once."""
        texts, self._texts = self._texts, []
        places, self._places = self._places, []
        self._n_chars = 0
        if not texts:
            return
        found = self._backend.encode_batch_fast(texts, add_special_tokens=False)
        self._pause()
        self._n_tokens += sum(map(len, found))
        self._check(self._n_tokens)
        for (place, name), one in zip(places, found, strict=True):
            packed = unpacked(one.ids, self._pause).tobytes()
            self._packed[place] = packed
            if name and self._recall is not None:
                self._recall.learn(name, packed)
