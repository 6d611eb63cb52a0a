"""Blocks stored again: second copies, reuse reports, and more of either than can be counted (E11).

A reuse report says of a block that is only used again that it was stored, and is never taken back.
"""

import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

from radixroute.events.engines.adapter import EngineAdapter
from radixroute.events.engines.engine_stream import ApplyTo, EngineStream
from radixroute.events.publish.mirror import StreamMirror
from radixroute.events.wire.records import BlocksStored, CacheCleared
from radixroute.radix.keys.scope import Scope
from tests.events.test_adapter import decode, removed, stored

SCOPE = Scope(model_fingerprint="m", block_size=2)
CHAIN = [1, 2, 3]
TOKENS = [10, 11, 12, 13, 14, 15]


def told(
    adapter: EngineAdapter, mirror: StreamMirror, *events: Any, flat: bool = True
) -> list[Any]:
    """What comes of a batch, in one call or event by event; the mirror follows."""
    batch = decode(*events).events
    ours = (
        adapter.translate_all(batch)
        if flat
        else [one for event in batch for one in adapter.translate(event)]
    )
    for event in list(ours):
        mirror.apply(event)
    adapter.check()
    return list(ours)


@pytest.mark.parametrize("flat", [True, False])
def test_two_thousand_reuse_reports_of_a_hot_prefix_leave_its_publisher_alive(flat):
    """The account of the stream that is sent on counts to 1,023: it raised, and the worker fell
    silent."""
    adapter, mirror = EngineAdapter(SCOPE), StreamMirror()
    for _ in range(2000):
        told(adapter, mirror, stored(CHAIN, TOKENS), flat=flat)
    assert adapter.counters.uncounted_copies == (2000 - 1023) * len(CHAIN)
    assert mirror.n_blocks == len(CHAIN)
    told(adapter, mirror, stored([4], [16, 17], parent=3), removed(4), flat=flat)
    assert mirror.n_blocks == len(CHAIN)
    told(adapter, mirror, {"type": "AllBlocksCleared"}, flat=flat)
    assert mirror.n_blocks == 0


@pytest.mark.parametrize("flat", [True, False])
def test_where_one_copy_is_kept_reuse_reports_leave_nothing_behind(flat):
    adapter, mirror = EngineAdapter(SCOPE), StreamMirror()
    told(adapter, mirror, stored(CHAIN, TOKENS), stored(CHAIN[:2], TOKENS[:4]), flat=flat)
    for event in adapter.keep_one_copy():
        assert isinstance(event, CacheCleared)
        mirror.apply(event)
    first = told(adapter, mirror, stored(CHAIN, TOKENS), flat=flat)
    again = told(adapter, mirror, stored(CHAIN[:2], TOKENS[:4]), flat=flat)
    grown = told(adapter, mirror, stored([*CHAIN, 4], [*TOKENS, 16, 17]), flat=flat)
    assert [len(one.keys) for one in first] == [3]
    assert again == []
    (event,) = grown
    assert isinstance(event, BlocksStored)
    assert event.parent == first[0].keys[-1]
    assert len(event.keys) == 1
    assert adapter.counters.uncounted_copies == 2 + 3
    told(adapter, mirror, removed(*CHAIN, 4), flat=flat)
    assert (mirror.n_blocks, adapter.n_blocks, adapter.copies_on_device) == (0, 0, 0)


def test_a_name_that_means_another_block_is_no_reuse():
    adapter, mirror = EngineAdapter(SCOPE), StreamMirror()
    adapter.keep_one_copy()
    told(adapter, mirror, stored(CHAIN, TOKENS))
    other = [*TOKENS[:2], 90, 91, 92, 93]
    assert told(adapter, mirror, stored([1, 2, 5], other)) == []
    assert adapter.counters.conflicting_hashes == 1
    assert mirror.n_blocks == len(CHAIN)


@pytest.mark.parametrize("seed", range(8))
def test_one_copy_is_kept_of_whatever_comes_in_any_order(seed):
    """Against sets: what is told and not removed since."""
    rng = random.Random(seed)
    adapter, mirror = EngineAdapter(SCOPE), StreamMirror()
    adapter.keep_one_copy()
    held: set[int] = set()
    for _ in range(400):
        chain, end = rng.randrange(4), rng.randrange(1, 6)
        names = [100 * chain + i for i in range(1, end + 1)]
        if rng.random() < 0.6:
            tokens = [chain * 50 + i for i in range(2 * end)]
            told(adapter, mirror, stored(names, tokens), flat=rng.random() < 0.5)
            held.update(names)
        else:
            gone = rng.sample(names, rng.randrange(1, end + 1))
            told(adapter, mirror, removed(*gone), flat=rng.random() < 0.5)
            held.difference_update(gone)
        assert (adapter.n_blocks, mirror.n_blocks) == (len(held), len(held))
    mirror.check()


def test_more_copies_than_the_pool_has_blocks_prove_that_not_every_store_is_one():
    stream = EngineStream(SCOPE, pool_blocks=4)
    mirror = StreamMirror()
    batches = [stored(CHAIN, TOKENS), stored(CHAIN[:1], TOKENS[:2]), stored(CHAIN[:2], TOKENS[:4])]
    for seq, event in enumerate([*batches, stored(CHAIN, TOKENS), removed(*CHAIN)]):
        for action in stream.receive(decode(event, seq=seq), 0):
            if isinstance(action, ApplyTo):
                for ours in action.events:
                    mirror.apply(ours)
    assert stream.counters.copies_disproved == 1
    assert mirror.n_blocks == 0
    stream.check()


def test_second_copies_are_counted_until_something_disproves_them():
    adapter, mirror = EngineAdapter(SCOPE), StreamMirror()
    told(adapter, mirror, stored(CHAIN, TOKENS), stored([3], TOKENS[4:], parent=2))
    assert adapter.copies_on_device == 4
    told(adapter, mirror, removed(3))
    assert mirror.n_blocks == len(CHAIN)
    keys = Counter(key for run in mirror.runs() for key in np.asarray(run.keys).tolist())
    assert set(keys.values()) == {1}
