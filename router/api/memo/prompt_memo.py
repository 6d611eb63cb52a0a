"""Prompt memo: what one router remembers of tokenised prompts, for all its doors.

Owns the memo of the router's process, changed in the router's loop alone, and the secret that its
names begin with. Each process that reads giant prompts has a memo of its own (`giants`), whose
roots come from here, too.
"""

from collections.abc import Callable
from hashlib import blake2b
from typing import Final

from radixroute.radix.keys.scope import RequestScope
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.api.memo.memo import Memo, MemoCounts, Recall
from radixroute.router.counters import Count

ROOT_BYTES: Final = 32
# Of all bytes: the router's own share, and that of each of two readers of giant prompts.
OWN_SHARE: Final = 2
READER_SHARE: Final = 4


class PromptMemo:
    """Of one router."""

    def __init__(self, max_bytes: int, idle_s: float, secret: bytes) -> None:
        """`max_bytes` 0: nothing is remembered. `secret`: up to 64 bytes, this process's own."""
        self._memo = Memo(max_bytes // OWN_SHARE, idle_s) if max_bytes else None
        self._secret = secret

    @property
    def n_bytes(self) -> int:
        return 0 if self._memo is None else self._memo.n_bytes

    @property
    def counts(self) -> MemoCounts:
        return MemoCounts() if self._memo is None else self._memo.counts

    def root(self, tokenizer: Tokenizer, scope: RequestScope) -> bytes:
        """What all names of this scope begin with; empty: nothing is remembered.

        Requests that share no cached blocks share no names either: how long tokenising takes tells
        them as little about each other.
        """
        if self._memo is None:
            return b""
        state = blake2b(tokenizer.fingerprint.encode(), digest_size=ROOT_BYTES, key=self._secret)
        state.update(scope.mark)
        return state.digest()

    def recall(self, root: bytes) -> Recall | None:
        """For a prompt that is read in this process; the rest is `keep`'s."""
        return None if self._memo is None else self._memo.recall(root)

    def keep(self, recall: Recall | None, now_s: float) -> None:
        if self._memo is not None and recall is not None:
            self._memo.keep(recall, now_s)

    def tick(self, now_s: float) -> None:
        """Forgets what was not used for long."""
        if self._memo is not None:
            self._memo.forget_old(now_s)


def count_memo(counts: MemoCounts, count_to: Callable[[Count, int], None]) -> None:
    """Tells the router's counters how far these came."""
    count_to(Count.PIECES_REUSED, counts.pieces_reused)
    count_to(Count.PIECE_TOKENS_REUSED, counts.tokens_reused)
    count_to(Count.PIECES_ADDED, counts.pieces_added)
    count_to(Count.PIECES_EVICTED, counts.pieces_evicted)
    count_to(Count.PIECES_LAPSED, counts.pieces_lapsed)
