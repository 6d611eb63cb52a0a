"""One request in a fake engine."""

import asyncio
from dataclasses import dataclass, field
from typing import Any

from tests.engines.fake_cache import Extra
from tests.worker.fakes import EOS


@dataclass(eq=False)
class Run:
    """One request: what it asked for, and how far it is."""

    body: dict[str, Any]
    tokens: list[int]
    max_tokens: int
    extra: Extra
    temperature: float = 1.0
    seed: int = 0
    min_tokens: int = 0
    ends: frozenset[int] = frozenset((EOS,))
    tells_again: bool = False
    n_prompt: int = field(init=False)
    n_cached: int = 0
    table: list[int] = field(default_factory=list)
    stored: int = 0
    said: asyncio.Queue[Any] = field(default_factory=asyncio.Queue)  # (token, finish), or a code

    def __post_init__(self) -> None:
        self.n_prompt = len(self.tokens)

    @property
    def n_output(self) -> int:
        return len(self.tokens) - self.n_prompt
