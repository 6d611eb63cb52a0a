"""What a worker may do to its events before they are published: its mirror and snapshots repeat it.

Each takes the events of a step and gives what is told instead.
"""

import random
from collections.abc import Callable

import numpy as np

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event
from radixroute.radix.ids import Keys

Events = tuple[Event, ...]


def false_blocks(keys: Callable[[], Keys]) -> Callable[[Events], Events]:
    """It claims blocks that others have, or nobody."""
    return lambda events: (*events, BlocksStored(None, keys()))


def dropped_removals(events: Events) -> Events:
    """It never says that a block is gone. A batch stays a batch: its seq counts."""
    return tuple(
        BlocksRemoved(np.empty(0, np.uint64)) if isinstance(event, BlocksRemoved) else event
        for event in events
    )


def double_copies(events: Events) -> Events:
    """It says twice that a block came, and once that it went."""
    told: list[Event] = []
    for event in events:
        told += [event, event] if isinstance(event, BlocksStored) else [event]
    return tuple(told)


def hidden_stores(events: Events) -> Events:
    """It says nothing of what came."""
    return tuple(
        BlocksStored(event.parent, event.keys[:0]) if isinstance(event, BlocksStored) else event
        for event in events
    )


def half_of(lie: Callable[[Events], Events], rng: random.Random) -> Callable[[Events], Events]:
    """Now and then only."""
    return lambda events: lie(events) if rng.random() < 0.5 else events
