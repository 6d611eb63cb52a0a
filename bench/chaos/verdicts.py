"""Verdicts: what one client saw of its stream, judged token by token against the right answer.

Pure. Trusts nothing that the client library checks by itself.
"""

import re
from array import array
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import pairwise

# Errors that a fleet may answer under faults; any other way to end without the answer is a loss.
CLEAN = (
    re.compile(r"two workers were lost with this request"),
    re.compile(r"no worker has joined yet"),
    re.compile(r"no worker took the request in time"),
)


class Verdict(StrEnum):
    """How a stream came out."""

    WHOLE = "whole"
    CLEAN_ERROR = "clean_error"  # what came before it was right
    LOST = "lost"  # it ended without an answer and without an error that says what to do
    MISSING = "missing"  # tokens were left out
    DUPLICATED = "duplicated"  # tokens came twice
    DIFFERENT = "different"  # other tokens or other text than without faults
    HUNG = "hung"  # nothing came any more


@dataclass(frozen=True, slots=True)
class Expected:
    """The answer without faults."""

    token_ids: tuple[int, ...]
    text: str


@dataclass(frozen=True, slots=True)
class Piece:
    """One message as the client saw it."""

    position: int
    token_ids: tuple[int, ...]
    text: str


@dataclass(slots=True)
class Heard:
    """One stream."""

    prompt: int  # number of its prompt
    pieces: list[Piece] = field(default_factory=list)
    is_finished: bool = False
    is_hung: bool = False
    error: str = ""  # that ended it
    # When it was asked for, when each message came and when it ended, on a monotonic clock.
    moments: "array[float]" = field(default_factory=lambda: array("d"))

    @property
    def longest_pause_s(self) -> float:
        """Without a message, its first one among them."""
        gaps = pairwise(self.moments)
        return max((end - begin for begin, end in gaps), default=0.0)


@dataclass(frozen=True, slots=True)
class Tally:
    """All streams of one run."""

    verdicts: Counter[Verdict]
    clean_errors: Counter[str]  # by reason
    losses: Counter[str]  # by what the client was told

    @property
    def is_sound(self) -> bool:
        good = self.verdicts[Verdict.WHOLE] + self.verdicts[Verdict.CLEAN_ERROR]
        return good == self.verdicts.total()


def judge(heard: Heard, expected: Expected) -> Verdict:
    n_have, text = 0, ""
    for piece in heard.pieces:
        wrong = _misplaced(piece, n_have) or _untrue(piece, expected)
        if wrong is not None:
            return wrong
        n_have, text = n_have + len(piece.token_ids), text + piece.text
    if not expected.text.startswith(text):
        return Verdict.DIFFERENT
    if heard.is_finished and not heard.error:
        if n_have < len(expected.token_ids):
            return Verdict.MISSING
        return Verdict.WHOLE if text == expected.text else Verdict.DIFFERENT
    if heard.is_hung:
        return Verdict.HUNG
    is_clean = any(kind.search(heard.error) for kind in CLEAN)
    return Verdict.CLEAN_ERROR if is_clean else Verdict.LOST


def _misplaced(piece: Piece, n_have: int) -> Verdict | None:
    if piece.position == n_have:
        return None
    return Verdict.DUPLICATED if piece.position < n_have else Verdict.MISSING


def _untrue(piece: Piece, expected: Expected) -> Verdict | None:
    end = piece.position + len(piece.token_ids)
    if end > len(expected.token_ids):
        return Verdict.DUPLICATED
    return (
        None if piece.token_ids == expected.token_ids[piece.position : end] else Verdict.DIFFERENT
    )


def tally(streams: Sequence[Heard], answers: Sequence[Expected]) -> Tally:
    judged = [(judge(heard, answers[heard.prompt]), heard.error) for heard in streams]
    return Tally(
        Counter(verdict for verdict, _ in judged),
        Counter(_reason(error) for verdict, error in judged if verdict is Verdict.CLEAN_ERROR),
        Counter(_reason(error) for verdict, error in judged if verdict is Verdict.LOST),
    )


def _reason(error: str) -> str:
    """Without the request's id."""
    return re.sub(r"\b[0-9a-f]{32}\b", "...", error) or "the stream ended without a finish"
