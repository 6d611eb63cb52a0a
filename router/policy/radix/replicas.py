"""Replicas: when it is worth computing a hot prefix on one more worker.

Owns, for each prefix that is cached somewhere, the milliseconds that requests lost because those
who hold it were busy: what they would have saved, had the worker that could start them soonest held
it, too. As in ski rental, where skis are bought once the rent has cost as much: a prefix that lost
enough may be computed where it is missing, at that account's expense. A request spends what others
lost, never its own wait: else whoever waits for a holder pays for a copy that nobody else may ever
ask for. Prefixes are named by the key
of their last block that any worker holds, so turns of a conversation, which are asked for once,
never get there. No clock, no I/O; `Selector` calls.
"""

from collections import OrderedDict
from typing import Final

import numpy as np

from radixroute.radix.ids import Keys, Runs
from radixroute.router.counters import Count, Counters
from radixroute.router.policy.radix.weights import WEIGHTS

# Prefixes remembered; the one that lost nothing for longest goes first.
MAX_PREFIXES: Final = 4096


def longest_held(held_blocks: Runs) -> int:
    """Blocks of the longest prefix of a prompt that any worker holds."""
    return int(np.maximum.reduce(held_blocks)) if len(held_blocks) else 0


def name_of(keys: Keys, n_blocks: int) -> int | None:
    """Of the prefix of so many blocks; None: nobody holds any."""
    return int(keys[n_blocks - 1]) if n_blocks else None


class Replicas:
    """What was lost for want of one more copy, by prefix."""

    def __init__(self, counters: Counters, *, share: float = WEIGHTS.copies) -> None:
        """`share`: of what was lost so much may be spent."""
        self._counters = counters
        self._share = share
        self._lost_ms: OrderedDict[int, float] = OrderedDict()
        self._own: dict[str, tuple[int, float]] = {}  # of each running request: whose, how much

    def __len__(self) -> int:
        return len(self._lost_ms)

    def credit_ms(self, prefix: int | None, request_id: str) -> float:
        """What computing it once more for this request may cost now."""
        if prefix is None:
            return 0.0
        own_prefix, own_ms = self._own.get(request_id, (None, 0.0))
        others_ms = self._lost_ms.get(prefix, 0.0) - (own_ms if own_prefix == prefix else 0.0)
        return self._share * max(0.0, others_ms)

    def lost(self, prefix: int | None, ms: float, request_id: str) -> None:
        """One request more lost so much; what it loses later does not count again."""
        if prefix is None or ms <= 0.0 or request_id in self._own:
            return
        self._own[request_id] = prefix, ms
        self._lost_ms[prefix] = self._lost_ms.get(prefix, 0.0) + ms
        self._lost_ms.move_to_end(prefix)
        if len(self._lost_ms) > MAX_PREFIXES:
            self._lost_ms.popitem(last=False)
            self._counters.add(Count.REPLICA_ACCOUNTS_FORGOTTEN)

    def ended(self, request_id: str) -> None:
        """What it lost stays on the account, for others."""
        self._own.pop(request_id, None)

    def spent(self, prefix: int | None, ms: float) -> None:
        """One more copy is being made, and cost so much more than going to a holder."""
        if prefix is None or ms <= 0.0:
            return
        self._counters.add(Count.REPLICAS_MADE)
        left = self._lost_ms.pop(prefix, 0.0) - ms / self._share
        if left > 0.0:
            self._lost_ms[prefix] = left
