"""The fast decoder of vLLM's maps against the one that knows every form: the same, or nothing."""

import random
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest

from radixroute.events.errors import RemoteEventError
from radixroute.events.foreign import ForeignBatch, ForeignStored
from radixroute.events.vllm import decode_unusual
from radixroute.events.vllm_usual import decode_usual
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
