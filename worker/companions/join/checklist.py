"""The checklist: what an engine said, and how it did on trial, against what must hold. Pure.

What is wrong is found in order; each check raises `JoinRefused` with the first of it. Tokens are
compared whole; a finding names the probe by its number, never its text.
"""

import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.worker.companions.dialects.dialect import EventPlace, Statement
from radixroute.worker.companions.join.findings import Finding, JoinRefused, finding
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


def check_statement(statement: Statement, settings: CompanionSettings) -> None:
    _refuse_first(statement_findings(statement, settings))


def statement_findings(statement: Statement, settings: CompanionSettings) -> Iterator[Finding]:
    """All that is wrong with what it says, the first what a join is refused for."""
    if not (statement.block_size or settings.block_size):
        yield finding("block_size")
    if settings.block_size and statement.block_size not in (0, settings.block_size):
        detail = f"{statement.block_size} there, {settings.block_size} here"
        yield finding("block_size_differs", detail)
    if not statement.max_model_len:
        yield finding("max_model_len")
    if settings.allow_no_events:
        return
    if not statement.has_prefix_cache:
        yield finding("prefix_caching")
    places = places_of(statement, settings)
    if not places:
        yield finding("events")
    elif len(places) > 1:
        yield finding("ranks", f"{len(places)} ranks")
    if places and not places[0].replay and not settings.allow_no_replay:
        yield finding("replay")


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
    _refuse_first(_trial_findings(trial, settings, block_size))


def _trial_findings(
    trial: Trial, settings: CompanionSettings, block_size: int
) -> Iterator[Finding]:
    if not trial.has_ended:
        yield finding("canary")
    elif not trial.has_token_ids:
        yield finding("token_ids")
    if trial.second_cached is None:
        if not settings.allow_no_cached_tokens:
            yield finding("cached_tokens")
    elif trial.second_cached < block_size and not settings.allow_no_events:
        yield finding("prefix_caching")


def _refuse_first(found: Iterator[Finding]) -> None:
    for one in found:
        raise JoinRefused(one)
