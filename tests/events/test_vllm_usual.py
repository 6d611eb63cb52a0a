"""The fast decoder of vLLM's maps against the one that knows every form: the same, or nothing."""

import random
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest

from radixroute.events.errors import RemoteEventError
from radixroute.events.foreign import ForeignBatch, ForeignStored
from radixroute.events.names import NameTable
from radixroute.events.vllm import decode_unusual
from radixroute.events.vllm_usual import decode_usual
from radixroute.radix.ids import BlockKey, Tier
from radixroute.radix.scope import Scope
from tests.events.test_packed import mutated

ROUNDS = 20_000
SCOPE = Scope("model", 16)


def some_event(rng: random.Random) -> dict[str, Any]:
    n = rng.choice((0, 1, 2, 20))
    hashes = [rng.getrandbits(64) for _ in range(n)]
    medium = rng.choice((None, "GPU", "CPU", "nowhere"))
    kind = rng.random()
    if kind < 0.1:
        return {"type": "AllBlocksCleared"}
    if kind < 0.3:
        return {"type": "BlockRemoved", "block_hashes": hashes, "medium": medium}
    event: dict[str, Any] = {
        "type": "BlockStored",
        "block_hashes": hashes,
        "parent_block_hash": rng.choice((None, rng.getrandbits(64))),
        "token_ids": [rng.getrandbits(rng.choice((6, 8, 15, 32))) for _ in range(16 * n)],
        "block_size": 16,
        "lora_id": rng.choice((None, 3)),
        "medium": medium,
        "lora_name": rng.choice((None, "adapter")),
    }
    if rng.random() < 0.5:
        event |= {"extra_keys": [rng.choice((None, ["salt"])) for _ in range(n)], "group_idx": 0}
    if rng.random() < 0.3:
        event |= {"kv_cache_spec_kind": "full_attention", "locality": "LOCAL", "later": [1]}
    return event


def payload_of(rng: random.Random) -> bytes:
    events = [some_event(rng) for _ in range(rng.choice((0, 1, 1, 3)))]
    payload: bytes = msgpack.packb([1.5, events, *rng.choice(((), (None,), (0,), (3,)))])
    return payload


def plain(batch: ForeignBatch) -> tuple[object, ...]:
    return (batch.seq, batch.rank, repr(batch.ts), batch.skipped, *map(_plain_event, batch.events))


def _plain_event(event: object) -> tuple[object, ...]:
    values = msgspec.structs.astuple(event)  # type: ignore[arg-type]
    return (type(event), *(v.tolist() if isinstance(v, np.ndarray) else v for v in values))


def test_the_usual_form_is_taken_and_says_the_same():
    rng = random.Random(1)
    for _ in range(1000):
        payload = payload_of(rng)
        fast = decode_usual(7, payload)
        assert fast is not None
        assert plain(fast) == plain(decode_unusual((7).to_bytes(8, "big"), payload))
        for event in fast.events:
            if isinstance(event, ForeignStored):
                assert event.token_ids.dtype == np.uint32


def test_any_bytes_are_read_as_the_other_decoder_reads_them_or_left_to_it():
    rng = random.Random(2)
    n_fast = n_left = n_refused = unread = 0
    for _ in range(ROUNDS):
        payload = mutated(payload_of(rng), rng)
        fast = decode_usual(0, payload)
        if fast is None:
            n_left += 1
            continue
        n_fast += 1
        try:
            slow = decode_unusual(bytes(8), payload)
        except RemoteEventError as error:
            # Text that is not UTF-8 in a field nobody reads: only one of them looks at it.
            unread += "UnicodeDecodeError" in str(error)
            n_refused += 1
            continue
        assert plain(fast) == plain(slow), payload.hex()
    assert n_refused == unread
    assert n_fast > ROUNDS / 10
    assert n_left > ROUNDS / 10


@pytest.mark.parametrize(
    "events",
    [
        [["BlockStored", [1], None, [1] * 16, 16, None]],  # an array, as before mid-2026
        [{"type": "BlockStored", "block_hashes": [b"\x01" * 32], "token_ids": [], "block_size": 1}],
        [{"type": "BlockStored", "block_hashes": [1], "token_ids": [[1, 2]], "block_size": 1}],
        [{"type": "BlockStored", "block_hashes": [1], "token_ids": [-1], "block_size": 1}],
        [{"type": "BlockStored", "block_hashes": [1], "token_ids": [2**32], "block_size": 1}],
        [{"type": "Unknown"}],
        [{"type": "BlockRemoved", "block_hashes": "12"}],
    ],
)
def test_other_forms_are_left_to_the_other_decoder(events):
    assert decode_usual(0, msgpack.packb([1.0, events, None])) is None


def test_what_is_no_batch_is_left_to_the_other_decoder_which_refuses_it():
    for payload in (b"", b"\xc1", msgpack.packb({"ts": 1}), msgpack.packb([1.0])):
        assert decode_usual(0, payload) is None
        with pytest.raises(RemoteEventError):
            decode_unusual(bytes(8), payload)


def keys(*values: int) -> np.ndarray:
    return np.array(values, np.uint64)


def test_names_keep_keys_parents_scopes_and_copies_through_growth():
    table, other = NameTable(), Scope("model", 16, lora="x")
    for number in range(300):
        first = 10 * number
        names = tuple(range(first, first + 10))
        chain = np.arange(first, first + 10, dtype=np.uint64) + np.uint64(1)
        parent = None if number % 2 else BlockKey(99)
        scope = SCOPE if number % 3 else other
        assert table.store(None, names, parent, chain, scope, Tier.DEVICE)  # type: ignore[arg-type]
    table.check()
    assert len(table) == 3000
    for name, above, place in ((0, 99, other), (9, 9, other), (10, None, SCOPE)):
        found = table.find(None, name)  # type: ignore[arg-type]
        assert found is not None
        assert (found.key, found.parent) == (name + 1, above)
        assert found.scope == place
    assert table.find(0, 5) is None  # type: ignore[arg-type]


def test_names_go_with_their_last_copy_and_their_places_are_used_again():
    table = NameTable()
    store: Any = table.store
    assert store(0, (1, 2), None, keys(11, 12), SCOPE, Tier.DEVICE)
    assert store(0, (1, 3), None, keys(11, 13), SCOPE, Tier.HOST)
    assert not store(0, (2,), None, keys(99), SCOPE, Tier.HOST)  # the name means another block
    remove: Any = table.remove
    assert remove(0, (1, 2, 3, 4), Tier.DEVICE) == [11, 12]
    assert len(table) == 2
    table.check()
    assert remove(0, (1, 3), Tier.HOST) == [11, 13]
    assert remove(0, (1,), Tier.HOST) == []
    assert store(0, (7, 8), None, keys(17, 18), SCOPE, Tier.DISK)
    table.check()
    assert len(table) == 2
