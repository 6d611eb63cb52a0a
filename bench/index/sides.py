"""Sides of the index benchmark, ours and the peer's, each with the input that it likes best.

Ours takes arrays; Dynamo's `RadixTree` takes JSON events and lists of ints through its wheel.
Both are filled with the same blocks on the same workers, and asked for the same prompts. Only the
calls are timed: everything they need is made before.
"""

import json
from dataclasses import dataclass
from typing import Any

from bench.index.trace import BLOCKS_AN_ID, Ids, KeyBook, Placed, tokens_of
from radixroute.radix.ids import BlockKey, Holder, Keys, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex

EVENT_BLOCKS = 32


@dataclass(frozen=True, slots=True)
class Store:
    """One stored event of at most 32 blocks, decoded."""

    worker: int
    parent: BlockKey | None
    keys: Keys


class Ours:
    """A prefix index of so many workers."""

    def __init__(self, workers: int, max_bytes: int = 4 << 30) -> None:
        self.index = PrefixIndex(max_bytes)
        self.holders = [Holder(WorkerId(f"w{number}")) for number in range(workers)]
        for holder in self.holders:
            self.index.join(holder)

    def store(self, events: list[Store]) -> None:
        index, holders = self.index, self.holders
        for event in events:
            index.store(holders[event.worker], event.parent, event.keys, Tier.DEVICE)

    def remove(self, events: list[tuple[int, Keys]]) -> None:
        index, holders = self.index, self.holders
        for worker, keys in events:
            index.remove(holders[worker], keys, Tier.DEVICE)


def our_events(placed: list[Placed], book: KeyBook) -> list[Store]:
    events = []
    for one in placed:
        parent = None if one.above is None else book.last(one.above)
        for piece in one.new:
            keys = book.keys((piece,))
            events.append(Store(one.worker, parent, keys))
            parent = BlockKey(int(keys[-1]))
    return events


def our_removals(placed: list[Placed], book: KeyBook) -> list[tuple[int, Keys]]:
    """Newest first, each chain from its tail: no block goes before what hangs below it."""
    return [
        (one.worker, book.keys((piece,))[::-1].copy())
        for one in reversed(placed)
        for piece in reversed(one.new)
    ]


class Dynamo:
    """`dynamo.llm.RadixTree`, from the wheel ai-dynamo-runtime."""

    def __init__(self) -> None:
        from dynamo.llm import RadixTree  # type: ignore[import-not-found]

        self.tree: Any = RadixTree()

    def apply(self, events: list[tuple[int, bytes]]) -> None:
        tree = self.tree
        for worker, event in events:
            tree.apply_event(worker, event)


class DynamoHashes:
    """Its local block hashes of each id: not chained, so made once an id."""

    def __init__(self) -> None:
        from dynamo.llm import compute_block_hash_for_seq

        self._compute = compute_block_hash_for_seq
        self._hashes: dict[int, list[int]] = {}

    def of(self, one: int) -> list[int]:
        if one not in self._hashes:
            self._hashes[one] = self._compute(tokens_of(one).tolist(), 16)
        return self._hashes[one]

    def prompt(self, ids: Ids) -> list[int]:
        return [local for one in ids for local in self.of(one)]


def dynamo_events(placed: list[Placed], hashes: DynamoHashes) -> list[tuple[int, bytes]]:
    events: list[tuple[int, bytes]] = []
    for one in placed:
        parent = None if one.above is None else one.above * BLOCKS_AN_ID + BLOCKS_AN_ID - 1
        for piece in one.new:
            blocks = [
                {"block_hash": piece * BLOCKS_AN_ID + j, "tokens_hash": local}
                for j, local in enumerate(hashes.of(piece))
            ]
            data = {"stored": {"parent_hash": parent, "blocks": blocks}}
            text = json.dumps({"event_id": len(events), "data": data})
            events.append((one.worker, text.encode()))
            parent = piece * BLOCKS_AN_ID + BLOCKS_AN_ID - 1
    return events


def dynamo_removals(placed: list[Placed]) -> list[tuple[int, bytes]]:
    events: list[tuple[int, bytes]] = []
    for one in reversed(placed):
        for piece in reversed(one.new):
            first = piece * BLOCKS_AN_ID
            gone = list(range(first + BLOCKS_AN_ID - 1, first - 1, -1))
            text = json.dumps(
                {"event_id": len(events), "data": {"removed": {"block_hashes": gone}}}
            )
            events.append((one.worker, text.encode()))
    return events
