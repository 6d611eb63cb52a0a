"""The checklist: what an engine said, and how it did on trial, against what must hold. Pure.

Each check raises `JoinRefused` with the first thing that is wrong. Tokens are compared whole; a
finding names the probe by its number, never its text.
"""

import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.worker.companions.dialects.dialect import EventPlace, Statement
from radixroute.worker.companions.join.findings import JoinRefused, finding
from radixroute.worker.companions.settings import CompanionSettings

TEXTS: Final = (
    "The quick brown fox, 1,234.5 times:\n\tjumps  over it.",
    "na\u00efve caf\u00e9 \u2014 \u65e5\u672c\u8a9e \U0001f44d\U0001f3fd \u0645\u0631\u062d",
)
CHATS: Final = (
    [{"role": "user", "content": "What is a prefix?"}],
    [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "What is a prefix?"},
    ],
)
CANARY_BLOCKS: Final = 3


@dataclass(frozen=True, slots=True)
class Trial:
    """How the same prompt did twice."""

    has_ended: bool
    has_token_ids: bool
    first_cached: int | None = None  # tokens; None: not told
    second_cached: int | None = None


def check_statement(statement: Statement, settings: CompanionSettings) -> Statement:
    """What the settings add filled in."""
    if not (statement.block_size or settings.block_size):
        raise JoinRefused(finding("block_size"))
    if settings.block_size and statement.block_size not in (0, settings.block_size):
        detail = f"{statement.block_size} there, {settings.block_size} here"
        raise JoinRefused(finding("block_size_differs", detail))
    if not statement.max_model_len:
        raise JoinRefused(finding("max_model_len"))
    if not settings.allow_no_events:
        if not statement.has_prefix_cache:
            raise JoinRefused(finding("prefix_caching"))
        places = places_of(statement, settings)
        if not places:
            raise JoinRefused(finding("events"))
        if len(places) > 1:
            raise JoinRefused(finding("ranks", f"{len(places)} ranks"))
        if not places[0].replay and not settings.allow_no_replay:
            raise JoinRefused(finding("replay"))
    return statement


def places_of(statement: Statement, settings: CompanionSettings) -> tuple[EventPlace, ...]:
    """Where its events are: the settings' word, else its own."""
    if settings.events:
        return (EventPlace(0, settings.events, settings.replay),)
    return statement.places


def check_tokens(code: str, number: int, ours: Sequence[int], theirs: Sequence[int]) -> None:
    """Of one probe. `code`: what is wrong where they differ."""
    if list(ours) != list(theirs):
        raise JoinRefused(finding(code, f"probe {number}"))


def canary_prompt(block_size: int, vocab_size: int, max_model_len: int) -> Tokens:
    """A few whole blocks and one more token that nobody ever sent; its last is always computed."""
    n_blocks = max(1, min(CANARY_BLOCKS, (max_model_len - 2) // block_size))
    low, high = vocab_size // 4, max(vocab_size // 4 + 1, 3 * vocab_size // 4)
    n_tokens = n_blocks * block_size + 1
    return as_tokens([low + secrets.randbelow(high - low) for _ in range(n_tokens)])


def check_trial(trial: Trial, settings: CompanionSettings, block_size: int) -> None:
    if not trial.has_ended:
        raise JoinRefused(finding("canary"))
    if not trial.has_token_ids:
        raise JoinRefused(finding("token_ids"))
    if trial.second_cached is None:
        if not settings.allow_no_cached_tokens:
            raise JoinRefused(finding("cached_tokens"))
    elif trial.second_cached < block_size and not settings.allow_no_events:
        raise JoinRefused(finding("prefix_caching"))
