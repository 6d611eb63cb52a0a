"""Replicas: when it is worth computing a hot prefix on one more worker.

Owns, for each prefix that is cached somewhere, the milliseconds that requests lost because those
who hold it were busy: what they would have saved, had the worker that could start them soonest held
it, too. As in ski rental, where skis are bought once the rent has cost as much: a prefix that lost
enough may be computed where it is missing, at that account's expense. Prefixes are named by the key
of their last block that any worker holds, so turns of a conversation, which are asked for once,
never get there. No clock, no I/O; `Selector` calls.
"""

from collections import OrderedDict
from typing import Final

import numpy as np

from radixroute.radix.ids import Keys, Runs
from radixroute.router.counters import Count, Counters

# Prefixes remembered; the one that lost nothing for longest goes first.
MAX_PREFIXES: Final = 4096
# Of what was lost so much may be spent: 1 answers soonest on average, less is kinder to the tail
# (docs/policy.md).
SHARE: Final = 0.5


def longest_held(held_blocks: Runs) -> int:
    """Blocks of the longest prefix of a prompt that any worker holds."""
    return int(np.maximum.reduce(held_blocks)) if len(held_blocks) else 0


def name_of(keys: Keys, n_blocks: int) -> int | None:
    """Of the prefix of so many blocks; None: nobody holds any."""
    return int(keys[n_blocks - 1]) if n_blocks else None


class Replicas:
    """What was lost for want of one more copy, by prefix."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters
        self._lost_ms: OrderedDict[int, float] = OrderedDict()

    def __len__(self) -> int:
        return len(self._lost_ms)

    def credit_ms(self, prefix: int | None) -> float:
        """What computing it once more may cost now."""
        return 0.0 if prefix is None else SHARE * self._lost_ms.get(prefix, 0.0)

    def lost(self, prefix: int | None, ms: float) -> None:
        """One request more lost so much."""
        if prefix is None or ms <= 0.0:
            return
        self._lost_ms[prefix] = self._lost_ms.get(prefix, 0.0) + ms
        self._lost_ms.move_to_end(prefix)
        if len(self._lost_ms) > MAX_PREFIXES:
            self._lost_ms.popitem(last=False)
            self._counters.add(Count.REPLICA_ACCOUNTS_FORGOTTEN)

    def spent(self, prefix: int | None, ms: float) -> None:
        """One more copy is being made, and cost so much more than going to a holder."""
        if prefix is None or ms <= 0.0:
            return
        self._counters.add(Count.REPLICAS_MADE)
        left = self._lost_ms.pop(prefix, 0.0) - ms / SHARE
        if left > 0.0:
            self._lost_ms[prefix] = left
