"""What SGLang says: signed hashes, media of HiCache, arrays until September 2026 and maps since."""

import msgpack
import numpy as np
import pytest

from radixroute.events.engines.adapter import AdapterCounters, EngineAdapter
from radixroute.events.engines.flat import decode_flat
from radixroute.events.engines.foreign import ForeignBatch, ForeignReplayEnd, tier_of
from radixroute.events.engines.vllm import decode_live, decode_replay, decode_unusual
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope

SIZE = 16
SCOPE = Scope(model_fingerprint="m", block_size=SIZE)
HOLDER = Holder(WorkerId("sglang"), 0)
TOKENS = list(range(1, 49))
# Digests of real pages (the first two: tokens 1..32), one below zero, and the extremes.
FIRST, SECOND, THIRD = 8635429971592222890, 1256577331724852459, -1855901740626323655
EXTREMES = (-(2**63), 2**63 - 1, -1)

STORED_NAMES = (
    "block_hashes", "parent_block_hash", "token_ids", "block_size", "lora_id", "medium",
)  # fmt: skip
REMOVED_NAMES = ("block_hashes", "medium")


def as_map(tag, names, values):
    return {"type": tag, **dict(zip(names, values, strict=True))}


def as_array(tag, _names, values):
    return [tag, *values]


FORMS = {"maps": as_map, "arrays": as_array}


def stored(form, hashes, tokens, parent=None, medium="GPU"):
    return form("BlockStored", STORED_NAMES, (hashes, parent, tokens, SIZE, None, medium))


def removed(form, *hashes, medium="GPU"):
    return form("BlockRemoved", REMOVED_NAMES, (list(hashes), medium))


def payload_of(*events, rank=0) -> bytes:
    payload: bytes = msgpack.packb([1.5, list(events), rank])
    return payload


def keys(n_blocks: int) -> list[int]:
    numbers: list[int] = block_keys(np.array(TOKENS, np.uint32), SIZE, SCOPE.seed).tolist()
    return numbers[:n_blocks]


class Follower:
    """An index fed by live messages, as a router's is."""

    def __init__(self) -> None:
        self.adapter = EngineAdapter(SCOPE)
        self.index = PrefixIndex()
        self.index.join(HOLDER)
        self.seq = 0

    def follow(self, *events) -> None:
        batch = decode_live([b"", self.seq.to_bytes(8, "big"), payload_of(*events)])
        assert (batch.seq, batch.skipped, batch.rank) == (self.seq, 0, 0)
        self.seq += 1
        for foreign in batch.events:
            for event in self.adapter.translate(foreign):
                match event:
                    case BlocksStored(parent, keys, tier):
                        self.index.store(HOLDER, parent, keys, tier)
                    case BlocksRemoved(keys, tier):
                        assert self.index.remove(HOLDER, keys, tier) == 0
                    case CacheCleared():
                        self.index.clear(HOLDER)
        self.adapter.check()
        self.index.check()

    def by_tier(self) -> tuple[int, int, int]:
        """Leading blocks of the prompt on device, host and disk, each in its fastest tier."""
        tiers = self.index.overlaps(np.array(keys(3), np.uint64)).by_tier(HOLDER)
        return tuple(int(tiers[tier]) for tier in Tier)  # type: ignore[return-value]

    def holds(self) -> list[bool]:
        return [self.index.holds(HOLDER, BlockKey(key)) for key in keys(3)]


@pytest.fixture
def follower():
    return Follower()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_prompt_of_signed_hashes_grows_and_shrinks(follower, form):
    follower.follow(form("AllBlocksCleared", (), ()))  # their first batch
    follower.follow(stored(form, [FIRST, SECOND], TOKENS[:32]))
    follower.follow(stored(form, [THIRD], TOKENS[32:], parent=SECOND))
    assert follower.holds() == [True, True, True]
    follower.follow(removed(form, THIRD))
    assert follower.holds() == [True, True, False]
    follower.follow(removed(form, SECOND), removed(form, FIRST))
    assert follower.holds() == [False, False, False]
    assert follower.adapter.n_blocks == 0
    assert follower.adapter.counters == AdapterCounters()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("parent", [THIRD, *EXTREMES])
def test_a_parent_below_zero_leads_to_its_child(follower, form, parent):
    follower.follow(stored(form, [parent], TOKENS[:16]))
    follower.follow(stored(form, [FIRST], TOKENS[16:32], parent=parent))
    assert follower.holds() == [True, True, False]
    follower.follow(removed(form, parent))
    assert follower.holds() == [False, True, False]


@pytest.mark.parametrize(("stores", "removes"), [(as_map, as_array), (as_array, as_map)])
def test_both_forms_name_the_same_blocks_signed_or_not(follower, stores, removes):
    follower.follow(stored(stores, [FIRST, THIRD], TOKENS[:32]))
    follower.follow(removed(removes, THIRD % 2**64))
    assert follower.holds() == [True, False, False]
    assert follower.adapter.counters == AdapterCounters()


@pytest.mark.parametrize("values", [[FIRST, THIRD], list(EXTREMES)])
def test_the_fast_decoder_takes_maps_of_signed_hashes_and_says_the_same(values):
    payload = payload_of(
        stored(as_map, values, [1] * SIZE * len(values), parent=THIRD), removed(as_map, *values)
    )
    fast, slow = decode_flat(0, payload), decode_unusual(bytes(8), payload)
    assert fast is not None
    folded = tuple(value % 2**64 for value in values)
    for batch in (fast, slow):
        assert [event.hashes for event in batch.events] == [folded, folded]  # type: ignore[union-attr]
        assert batch.events[0].parent == THIRD % 2**64  # type: ignore[union-attr]


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_block_moves_through_the_tiers_of_hicache(follower, form):
    store = [FIRST, THIRD]
    follower.follow(stored(form, store, TOKENS[:32]))
    assert follower.by_tier() == (2, 0, 0)
    follower.follow(stored(form, store, TOKENS[:32], medium="CPU_PINNED"))  # written through
    follower.follow(removed(form, *store))  # demoted
    assert follower.by_tier() == (0, 2, 0)
    follower.follow(stored(form, store, TOKENS[:32]))  # loaded back: held twice
    assert follower.by_tier() == (2, 0, 0)
    follower.follow(removed(form, THIRD, medium="CPU_PINNED"))  # the host's copy of one goes
    assert follower.by_tier() == (2, 0, 0)
    follower.follow(removed(form, THIRD), removed(form, FIRST))
    assert follower.by_tier() == (0, 1, 0)
    follower.follow(stored(form, [FIRST], TOKENS[:16], medium="DISK"))
    follower.follow(removed(form, FIRST, medium="CPU_PINNED"))
    assert follower.by_tier() == (0, 0, 1)
    follower.follow(removed(form, FIRST, medium="DISK"))
    assert follower.adapter.n_blocks == 0
    assert follower.adapter.counters == AdapterCounters()


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_what_is_shared_by_workers_credits_none(follower, form):
    follower.follow(stored(form, [FIRST], TOKENS[:16]))
    follower.follow(stored(form, [FIRST], TOKENS[:16], medium="EXTERNAL"))
    follower.follow(removed(form, FIRST, medium="EXTERNAL"))
    assert follower.by_tier() == (1, 0, 0)
    assert follower.adapter.counters == AdapterCounters(unknown_media=2)


@pytest.mark.parametrize(
    ("media", "tier"),
    [
        ((None, "GPU", "gpu", "DEVICE"), Tier.DEVICE),
        (("CPU", "cpu", "CPU_PINNED", "cpu_pinned", "CPU_TIER1"), Tier.HOST),
        (("DISK", "NVME", "CPU_TIER2", "STORAGE", "FS", "OBJ"), Tier.DISK),
        (("EXTERNAL", "NETWORK", "REMOTE", "SHARED", "SHARED_STORAGE", "OBJECT_STORE"), None),
        (("", "HBM3", "cpu "), None),  # unknown: never the device
    ],
)
def test_a_medium_is_a_tier_or_nothing(media, tier):
    assert [tier_of(medium) for medium in media] == [tier] * len(media)


def test_the_first_arrays_had_no_medium(follower):
    follower.follow(["BlockStored", [THIRD], None, TOKENS[:16], SIZE])
    follower.follow(["BlockStored", [FIRST], THIRD, TOKENS[16:32], SIZE, None])
    assert follower.by_tier() == (2, 0, 0)
    follower.follow(["BlockRemoved", [FIRST]])
    assert follower.by_tier() == (1, 0, 0)


@pytest.mark.parametrize(
    "event",
    [
        ["BlockStored", [THIRD], None, TOKENS[:16], SIZE, None, "GPU", {"cache_salt": "tenant-a"}],
        ["BlockStored", [THIRD], None, TOKENS[:16], SIZE, None, "GPU",
         {"cache_salt": "tenant-a", "session_id": "s"}],
        {**stored(as_map, [THIRD], TOKENS[:16]), "cache_salt": "tenant-a", "session_id": "s"},
    ],
)  # fmt: skip
def test_a_salted_page_is_in_a_space_of_its_own(follower, event):
    follower.follow(event)
    assert follower.holds() == [False, False, False]
    salted = Scope(model_fingerprint="m", block_size=SIZE, tenant_salt="tenant-a")
    (key,) = block_keys(np.array(TOKENS[:16], np.uint32), SIZE, salted.seed).tolist()
    assert follower.index.holds(HOLDER, BlockKey(key))
    follower.follow(removed(as_map, THIRD))
    assert follower.index.n_blocks(HOLDER) == 0


def test_a_trailing_partial_page_makes_no_entry(follower):
    short = as_map("BlockStored", STORED_NAMES, ([THIRD], None, TOKENS[:5], 5, None, "GPU"))
    follower.follow(short)
    assert follower.index.n_blocks(HOLDER) == 0
    assert follower.adapter.counters == AdapterCounters(other_block_sizes=1)


def test_replays_have_no_topic():
    payload = payload_of(stored(as_array, [THIRD], TOKENS[:16]), rank=3)
    batch = decode_replay([b"", (7).to_bytes(8, "big"), payload])
    assert isinstance(batch, ForeignBatch)
    assert (batch.seq, batch.rank, len(batch.events)) == (7, 3, 1)
    assert isinstance(decode_replay([b"", b"\xff" * 8, b""]), ForeignReplayEnd)
