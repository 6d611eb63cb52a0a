"""A backend's ids without holding the interpreter: it works with the lock let go of.

Owns no state. Called by `Tokenizer` and `ControlTokens`.
"""

from collections.abc import Callable
from typing import TypeAlias

import numpy as np
import tokenizers

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.request.pacing import IDS_A_TURN, Pause, no_pause

# Is told how many tokens there are; may raise `InvalidRequest`.
LengthCheck: TypeAlias = Callable[[int], None]


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
