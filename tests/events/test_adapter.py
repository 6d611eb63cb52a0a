"""Which foreign events become ours, which are dropped, and under which counter."""

import msgpack
import numpy as np
import pytest

from radixroute.events.engines.adapter import EngineAdapter
from radixroute.events.engines.foreign import (
    EngineHash,
    ForeignCleared,
    ForeignRemoved,
    ForeignStored,
)
from radixroute.events.engines.vllm import decode_live
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.ids import Tier
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope

SCOPE = Scope(model_fingerprint="m", block_size=2)


def decode(*events, as_map: bool = False, seq: int = 0):
    batch = {"ts": 1.0, "events": list(events)} if as_map else [1.0, list(events), None]
    return decode_live([b"", seq.to_bytes(8, "big"), msgpack.packb(batch)])


def stored(hashes, tokens, parent=None, **more):
    return {
        "type": "BlockStored",
        "block_hashes": list(hashes),
        "parent_block_hash": parent,
        "token_ids": list(tokens),
        "block_size": 2,
        "lora_id": None,
        "medium": "GPU",
        "lora_name": None,
        **more,
    }


def removed(*hashes, **more):
    return {"type": "BlockRemoved", "block_hashes": list(hashes), "medium": "GPU", **more}


def keys(*tokens, lora="", salt=""):
    scope = Scope(model_fingerprint="m", block_size=2, lora=lora, tenant_salt=salt)
    return block_keys(np.array(tokens, dtype=np.uint32), 2, scope.seed).tolist()


def translate(adapter, *events):
    batch = decode(*events)
    assert batch.skipped == 0
    got = [ours for event in batch.events for ours in adapter.translate(event)]
    adapter.check()
    return got


def only(events):
    (event,) = events
    return event


@pytest.fixture
def adapter():
    return EngineAdapter(SCOPE)


def test_a_store_carries_the_keys_of_its_prompt(adapter):
    event = only(translate(adapter, stored([7, 8], [1, 2, 3, 4])))
    assert isinstance(event, BlocksStored)
    assert (event.parent, event.keys.tolist(), event.tier) == (None, keys(1, 2, 3, 4), Tier.DEVICE)


def test_a_child_store_continues_its_parents_chain(adapter):
    translate(adapter, stored([0], [1, 2]))  # a hash of 0 is legal
    event = only(translate(adapter, stored([8], [3, 4], parent=0)))
    assert [event.parent, *event.keys.tolist()] == keys(1, 2, 3, 4)


@pytest.mark.parametrize("as_map", [False, True])
def test_arrays_and_maps_say_the_same(as_map):
    array = ["BlockStored", [7], None, [1, 2], 2, None, "GPU", None, [None], 0, "full_attention"]
    short = ["BlockStored", [7], None, [1, 2], 2]
    future = [*array, None, "LOCAL", None, None, "what comes next"]
    for form in (array, short, future, stored([7], [1, 2], unheard_of=1)):
        batch = decode(form, as_map=as_map)
        event = only(batch.events)
        assert isinstance(event, ForeignStored)
        assert (event.hashes, event.token_ids.tolist(), event.block_size) == ((7,), [1, 2], 2)
    cleared = decode(["AllBlocksCleared"], {"type": "AllBlocksCleared"}, as_map=as_map)
    assert [type(event) for event in cleared.events] == [ForeignCleared] * 2
    assert only(decode(["BlockRemoved", [7], "CPU", 1], as_map=as_map).events) == ForeignRemoved(
        (EngineHash(7),), "CPU", 1
    )


def test_hashes_fold_to_64_bits():
    digest = bytes(24) + (99).to_bytes(8, "big")
    batch = decode(stored([digest, -1, 2**64 - 1, b"\x05"], range(8)))
    assert only(batch.events).hashes == (99, 2**64 - 1, 2**64 - 1, 5)


def test_pairs_of_speculative_tokens_count_once():
    assert only(decode(stored([1], [[5, 6], [6, 7]])).events).token_ids.tolist() == [5, 6]


@pytest.mark.parametrize(
    "bad",
    [
        {"type": "BlockStored"},
        {"type": "Unheard"},
        {},
        [],
        3,
        stored(["text"], [1, 2]),
        stored([True], [1, 2]),
        stored([1], [[5, 6], 6]),
        stored([1], [-1, 2]),
        stored([1], [1, 2**32]),
        stored([1], [1, 2], block_size=-2),
        stored([1], [1, 2], medium=4),
        stored([1], [1, 2], extra_keys=[3]),
        ["BlockRemoved", 7],
    ],
)
def test_one_bad_event_does_not_cost_its_batch(bad):
    batch = decode(stored([7], [1, 2]), bad, removed(7))
    assert [type(event) for event in batch.events] == [ForeignStored, ForeignRemoved]
    assert batch.skipped == 1


def test_a_block_leaves_with_its_last_copy(adapter):
    translate(adapter, stored([7], [1, 2]), stored([7], [1, 2]))
    for left in (1, 0):
        event = only(translate(adapter, removed(7)))
        assert isinstance(event, BlocksRemoved)
        assert event.keys.tolist() == keys(1, 2)
        assert adapter.n_blocks == left
    assert translate(adapter, removed(7)) == []
    assert adapter.counters.unknown_removals == 1


def test_a_removal_of_another_tier_is_not_ours(adapter):
    translate(adapter, stored([7], [1, 2]))
    assert translate(adapter, removed(7, medium="CPU")) == []
    assert adapter.n_blocks == 1


def test_a_placeholder_is_resolved_by_its_hash(adapter):
    translate(adapter, stored([7, 8], [1, 2, 3, 4]))
    offload = stored([8, 9], [], medium="CPU", block_size=0)
    event = only(translate(adapter, offload))
    assert [event.parent, *event.keys.tolist()] == keys(1, 2, 3, 4)
    assert event.tier is Tier.HOST
    assert adapter.counters.unresolved_blocks == 1
    translate(adapter, removed(8))
    assert adapter.n_blocks == 2  # still on the host


def test_a_clear_forgets_every_hash(adapter):
    translate(adapter, stored([7], [1, 2]))
    assert isinstance(only(translate(adapter, {"type": "AllBlocksCleared"})), CacheCleared)
    assert adapter.n_blocks == 0
    assert translate(adapter, stored([8], [3, 4], parent=7)) == []
    assert adapter.counters.unknown_parents == 1


@pytest.mark.parametrize(
    ("event", "counter"),
    [
        (stored([7], [1, 2], kv_cache_spec_kind="sliding_window"), "other_groups"),
        (stored([7], [1, 2], medium="EXTERNAL"), "unknown_media"),
        (stored([7], [1, 2], medium="a new one"), "unknown_media"),
        (stored([7], [1, 2], locality="REMOTE"), "not_local"),
        (stored([7], [1, 2], locality="anything"), "not_local"),
        (stored([7], [1], block_size=1), "other_block_sizes"),
        (stored([7], [1, 2, 3]), "wrong_lengths"),
        (stored([7, 7], [1, 2, 3, 4]), "self_referring"),
        (stored([7], [1, 2], parent=7), "self_referring"),
        (stored([7], [1, 2], parent=6), "unknown_parents"),
        (stored([7], [1, 2], lora_id=3), "unnamed_loras"),
        (stored([7], [1, 2], extra_keys=[[["image", 0]]]), "content_blocks"),
        (stored([7], [1, 2], extra_keys=[[b"embedding"]]), "content_blocks"),
    ],
)
def test_what_cannot_be_keyed_truthfully_is_dropped_and_counted(adapter, event, counter):
    assert translate(adapter, event) == []
    assert getattr(adapter.counters, counter) == 1
    assert adapter.n_blocks == 0


def test_a_hash_of_two_prefixes_is_dropped(adapter):
    translate(adapter, stored([7], [1, 2]))
    assert translate(adapter, stored([7], [3, 4])) == []
    assert adapter.counters.conflicting_hashes == 1


def test_removals_of_another_group_are_not_ours(adapter):
    window = stored([7], [1, 2], group_idx=1, kv_cache_spec_kind="sliding_window")
    whole = stored([7], [1, 2], group_idx=0, kv_cache_spec_kind="full_attention")
    assert len(translate(adapter, window, whole)) == 1
    assert translate(adapter, removed(7, group_idx=1)) == []
    assert len(translate(adapter, removed(7, group_idx=0))) == 1
    assert adapter.counters.other_groups == 2


def test_blocks_before_an_image_are_kept(adapter):
    event = stored([7, 8, 9], [1, 2, 3, 4, 5, 6], extra_keys=[None, [["image", 1]], None])
    assert only(translate(adapter, event)).keys.tolist() == keys(1, 2)
    assert adapter.counters.content_blocks == 2


def test_salt_and_lora_live_in_spaces_of_their_own(adapter):
    x_salt = stored([1], [1, 2], extra_keys=[["X"]])
    x_lora = stored([2], [1, 2], lora_name="X", lora_id=1, extra_keys=[["X"]])
    both = stored([3], [1, 2], lora_name="X", lora_id=1, extra_keys=[["X", "X"]])
    sglang = ["BlockStored", [4], None, [1, 2], 2, None, "GPU", {"cache_salt": "X"}]
    got = [
        only(translate(adapter, event)).keys.tolist() for event in (x_salt, x_lora, both, sglang)
    ]
    assert got == [
        keys(1, 2, salt="X"),
        keys(1, 2, lora="X"),
        keys(1, 2, lora="X", salt="X"),
        keys(1, 2, salt="X"),
    ]
    assert keys(1, 2) not in got


def test_children_inherit_the_salt_they_do_not_repeat(adapter):
    translate(adapter, stored([1], [1, 2], extra_keys=[["salt"]]))
    event = only(translate(adapter, stored([2], [3, 4], parent=1, extra_keys=[None])))
    assert [event.parent, *event.keys.tolist()] == keys(1, 2, 3, 4, salt="salt")
