"""The checklist: what an engine said, and how it did on trial, against what must hold. Pure.

What is wrong is found in order; each check raises `JoinRefused` with the first of it. Tokens are
compared whole; a finding names the probe by its number, never its text.
"""

import datetime
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from radixroute.radix.ids import Tokens
from radixroute.radix.keys.block_keys import as_tokens
from radixroute.worker.companions.dialects.common.places import of_rank
from radixroute.worker.companions.dialects.dialect import EventPlace, Statement
from radixroute.worker.companions.join.findings import PLACED, UNTOLD, Finding, JoinRefused, finding
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
# Tokens. Where a cache is believed the size is ours to choose, and the engine's own may be larger.
BELIEVED_BLOCK: Final = 16
BELIEVED_CANARY: Final = 2_047  # how much of it is found tells how large they are


@dataclass(frozen=True, slots=True)
class Trial:
    """How the same prompt did twice."""

    has_ended: bool
    has_token_ids: bool
    first_cached: int | None = None  # tokens; None: not told
    second_cached: int | None = None
    is_refused: bool = False  # as wrong: it takes no such prompts
    status: int = 0  # of an answer that was none of these; 0: there was none

    @property
    def has_found(self) -> bool:
        """Something of the first, the second time; or nobody knows."""
        return self.second_cached is None or self.second_cached > 0


def check_statement(statement: Statement, settings: CompanionSettings) -> None:
    _refuse_first(statement_findings(statement, settings))


def statement_findings(statement: Statement, settings: CompanionSettings) -> Iterator[Finding]:
    """All that is wrong with what it says, the first what a join is refused for."""
    kind, is_told = statement.kind, bool(places_of(statement, settings))
    is_believed = not is_told and (settings.allow_no_events or not statement.could_tell_events)
    if not (statement.block_size or settings.block_size or is_believed):
        yield finding("block_size", kind=kind)
    differs = settings.block_size and statement.block_size not in (0, settings.block_size)
    if differs and not is_believed:
        detail = f"{statement.block_size} there, {settings.block_size} here"
        yield finding("block_size_differs", detail, kind=kind)
    if not (statement.max_model_len or settings.max_model_len):
        yield finding("max_model_len", kind=kind)
    if statement.could_tell_events and not settings.allow_no_events:
        yield from _event_findings(statement, settings)


def places_of(statement: Statement, settings: CompanionSettings) -> tuple[EventPlace, ...]:
    """Where events are followed, one place a rank; none: they do not tell all of every rank, or
    of blocks of some size."""
    places = _places(statement, settings)
    is_clear = statement.are_adapters_told or not statement.adapters
    is_whole = len(places) >= statement.ranks and statement.block_size != 1
    return places if is_whole and is_clear else ()


def block_size_of(statement: Statement, settings: CompanionSettings) -> int:
    """Of one that was not refused."""
    own = statement.block_size if statement.block_size > 1 else 0
    return settings.block_size or own or BELIEVED_BLOCK


def _event_findings(statement: Statement, settings: CompanionSettings) -> Iterator[Finding]:
    kind, places = statement.kind, _places(statement, settings)
    if not statement.has_prefix_cache:
        yield finding("prefix_caching", kind=kind)
    if statement.block_size == 1:
        yield finding("page_size", kind=kind)
    if not places:
        yield finding("events", kind=kind if statement.tells_places else UNTOLD)
        return
    if len(places) < statement.ranks:
        detail = f"{statement.ranks} ranks, events of {len(places)}"
        yield finding("ranks", detail, kind=kind)
    if statement.adapters and not statement.are_adapters_told:
        yield finding("adapters", kind=kind)
    if places[0].connects_to:
        _, _, port = places[0].connects_to.rpartition(":")
        detail = f'{places[0].connects_to}; write "tcp://*:{port}"'
        yield finding("events_connect", detail, kind=kind)
    if not places[0].replay and not settings.allow_no_replay:
        yield finding("replay", kind=PLACED if settings.events else kind)


def _places(statement: Statement, settings: CompanionSettings) -> tuple[EventPlace, ...]:
    """Where its events are: the settings' word, else its own."""
    if not statement.could_tell_events:
        return ()
    if settings.events:
        return tuple(
            EventPlace(rank, of_rank(settings.events, rank), of_rank(settings.replay, rank))
            for rank in range(statement.ranks)
        )
    return statement.places


def days_near(today: datetime.date) -> tuple[datetime.date, ...]:
    """What a template that prints the date may print at an engine whose clock is another."""
    return tuple(today + datetime.timedelta(days) for days in (0, -1, 1))


def check_tokens(
    code: str, number: int, ours: Sequence[Sequence[int]], theirs: Sequence[int], kind: str
) -> None:
    """Of one probe. `ours`: each of them would do. `code`: what is wrong where none is theirs."""
    if list(theirs) not in map(list, ours):
        raise JoinRefused(finding(code, f"probe {number}", kind=kind))


def check_counts(ours: Sequence[int], theirs: Sequence[int], kind: str) -> None:
    """Of all probes. One more or less everywhere is a token that begins a text."""
    differences = {there - here for here, there in zip(ours, theirs, strict=True)}
    if len(differences) > 1 or differences - {-1, 0, 1}:
        raise JoinRefused(finding("tokenizer", "it counts other numbers of them", kind=kind))


def canary_prompt(
    block_size: int, vocab_size: int, max_model_len: int, at_least: int = 0
) -> Tokens:
    """A few whole blocks, or `at_least` so many tokens, and one more, that nobody ever sent; the
    last is always computed."""
    n_blocks = max(CANARY_BLOCKS, at_least // block_size)
    n_blocks = max(1, min(n_blocks, (max_model_len - 2) // block_size))
    low, high = vocab_size // 4, max(vocab_size // 4 + 1, 3 * vocab_size // 4)
    n_tokens = n_blocks * block_size + 1
    return as_tokens([low + secrets.randbelow(high - low) for _ in range(n_tokens)])


def check_trial(
    trial: Trial, statement: Statement, settings: CompanionSettings, block_size: int
) -> None:
    _refuse_first(_trial_findings(trial, statement, settings, block_size))


def _trial_findings(
    trial: Trial, statement: Statement, settings: CompanionSettings, block_size: int
) -> Iterator[Finding]:
    kind = statement.kind
    if trial.is_refused and not statement.could_tell_events:
        yield finding("prompts", kind=kind)
    if not trial.has_ended:
        detail = f"the engine answered {trial.status}" if trial.status else ""
        yield finding("canary", detail, kind=kind)
    elif not trial.has_token_ids and statement.could_tell_events:
        yield finding("token_ids", kind=kind)
    wanted = block_size if statement.could_tell_events else 1  # its own blocks may be larger
    if trial.second_cached is None:
        if not settings.allow_no_cached_tokens:
            yield finding("cached_tokens", kind=kind)
    elif trial.second_cached < wanted and not settings.allow_no_events:
        yield finding("prefix_caching", kind=kind)


def _refuse_first(found: Iterator[Finding]) -> None:
    for one in found:
        raise JoinRefused(one)
