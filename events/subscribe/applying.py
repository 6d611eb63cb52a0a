"""What events do to an index. One pure step, for those who follow streams without routing."""

from collections.abc import Sequence

from radixroute.events.wire.packed import PackedEvents
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared, Event
from radixroute.radix.ids import Holder
from radixroute.radix.index.prefix_index import PrefixIndex


def apply_events(index: PrefixIndex, holder: Holder, events: Sequence[Event]) -> None:
    """In order. O(blocks)."""
    if isinstance(events, PackedEvents):
        index.apply(holder, events.words)
        return
    for event in events:
        match event:
            case BlocksStored():
                index.store(holder, event.parent, event.keys, event.tier)
            case BlocksRemoved():
                index.remove(holder, event.keys, event.tier)
            case CacheCleared():
                index.clear(holder)
