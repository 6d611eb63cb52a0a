"""Joined: an engine that may serve as a worker, and what is known of it. Pure."""

from dataclasses import dataclass
from typing import Final

from radixroute.radix.keys.scope import Scope
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.companions.dialects.dialect import Dialect, EventPlace, Statement
from radixroute.worker.companions.texts import Texts
from radixroute.worker.engine.engine import EngineInfo, EngineRequest

NO_SALT: Final = "cache_salt, tenant: this engine cannot keep caches apart"


@dataclass(frozen=True, slots=True)
class Joined:
    """What is known of an engine that passed."""

    info: EngineInfo
    scope: Scope
    tokenizer: Tokenizer
    statement: Statement
    dialect: Dialect
    places: tuple[EventPlace, ...]  # of its events, one a rank; none: they are not followed
    ranks: tuple[int, ...] = (0,)  # its own numbers of them
    keeps_salts_apart: bool = True
    canary: tuple[int, int] = (0, 0)  # tokens that could have been found again, and that were
    texts: Texts | None = None  # None: it tells ids

    def rank_of(self, at: int) -> int | None:
        """What a request for this one of its ranks names; None: there is one."""
        return self.ranks[at] if len(self.ranks) > 1 else None

    def refuses(self, request: EngineRequest) -> str:
        """Why it cannot be served truly there, a fixed sentence; empty: it can."""
        scope = request.scope
        if (scope.salt or scope.tenant) and not self.keeps_salts_apart:
            return NO_SALT
        if request.verbatim is not None:
            return ""  # the rest is the engine's to say
        return self.dialect.refuses(request)
