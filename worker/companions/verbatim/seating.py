"""Seating: which prompts an engine has computed by now, though nothing came of their answers.

An answer that comes whole has no first token of its own, and a prompt counts as waiting until there
is one: minutes, of a long answer. Engines start what came first, and tell how many still wait. Who
was past that queue for a while counts as computed. Owns since when who was past it. No clock.
"""

from typing import Final

from radixroute.worker.companions.calls import Call, Calls
from radixroute.worker.companions.dialects.dialect import EngineNumbers

# More than most prompts take. A longer one is forgotten while it is computed.
ENOUGH_NS: Final = 500_000_000


class Seating:
    """Of one engine."""

    def __init__(self) -> None:
        self._since_ns: dict[tuple[str, int], int] = {}

    def looked(self, calls: Calls, numbers: EngineNumbers, now_ns: int) -> bool:
        """`numbers`: how many wait in the queue of each rank, whoever sent them; of none: it does
        not say, and all count as before. Whether anybody's prompt counts no more. O(calls)."""
        seated: list[Call] = []
        for at, rank in enumerate(numbers.ranks):
            silent = [call for call in calls if call.first_ns is None and call.rank == at]
            seated += silent[: max(0, len(silent) - rank.waiting)]
        since_ns = {call.key: self._since_ns.get(call.key, now_ns) for call in seated}
        self._since_ns = since_ns
        computed = [
            call
            for call in seated
            if call.relaying is not None
            and call.uncached_tokens
            and now_ns - since_ns[call.key] >= ENOUGH_NS
        ]
        for call in computed:
            calls.computed(call)
        return bool(computed)
