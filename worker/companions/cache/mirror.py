"""Cache mirror: what an engine holds now by its own events, to foresee how a prompt is served.

A prefix index with one holder, fed by the events that go to routers. On the event loop.
"""

from collections.abc import Sequence
from typing import Final

from radixroute.events.subscribe.stream_source import apply_events
from radixroute.events.wire.records import Event
from radixroute.radix.ids import Holder, Tokens, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import RequestScope, Scope

_SELF: Final = Holder(WorkerId("self"))
_BYTES: Final = 1 << 30  # virtual until used


class CacheMirror:
    """One engine's cache."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._index = PrefixIndex(_BYTES)
        self._index.join(_SELF)
        self.n_blocks = 0  # that it holds in any tier; each step asks

    def apply(self, events: Sequence[Event]) -> None:
        apply_events(self._index, _SELF, events)
        self.n_blocks = self._index.n_blocks(_SELF)

    def cached_tokens(self, tokens: Tokens, scope: RequestScope) -> int:
        """Of this prompt, by now; the last token is computed in any case."""
        size = self._scope.block_size
        keys = block_keys(tokens[:-1], size, self._scope.seed_of(scope))
        if not len(keys) or not self.n_blocks:
            return 0
        return size * self._index.overlaps(keys).blocks_of(_SELF)
