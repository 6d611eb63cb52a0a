"""The fuzz sentence: any bytes become records or `RemoteEventError`, for every decoder."""

import random

import msgpack
import pytest

from radixroute.events.engines.vllm import decode_live, decode_replay
from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.control import (
    ResendRequest,
    decode_reply,
    decode_request,
    encode_part,
    encode_request,
)
from radixroute.events.wire.epoch import epoch_from_hex, make_epoch
from radixroute.events.wire.native import decode_frames, encode_batch, encode_heartbeat
from radixroute.events.wire.records import CacheCleared, EventBatch, Heartbeat, SnapshotPart
from radixroute.radix.digest import Account
from tests.events.fakes import LOAD, removed, stored

ROUNDS = 15_000
EPOCH = make_epoch(1, bytes(8))

BATCH = encode_batch(
    EventBatch(EPOCH, 0, 3, (stored(None, 1, 2), stored(2, 3), removed(1), CacheCleared()), 1.0)
)
BEAT = encode_heartbeat(Heartbeat(EPOCH, 0, 5, Account(3, 99), LOAD))
PART = encode_part(SnapshotPart(EPOCH, 0, 5, 0, 2, (stored(None, 1, 2), stored(2, 3))))
RESEND = encode_request(ResendRequest(1, 2))
STORED = {
    "type": "BlockStored",
    "block_hashes": [1, b"x" * 32],
    "parent_block_hash": None,
    "token_ids": [1, 2, 3, 4],
    "block_size": 2,
    "lora_id": None,
    "medium": "GPU",
    "lora_name": "name",
    "extra_keys": [None, ["salt"]],
}
ARRAY = ["BlockStored", [1], None, [[1, 2], [2, 3]], 2, None, "GPU", {"cache_salt": "s"}]
FOREIGN = [
    b"topic",
    bytes(8),
    msgpack.packb([1.0, [STORED, ARRAY, {"type": "BlockRemoved", "block_hashes": [1]}], 0]),
]

DECODERS = {
    "batches": (decode_frames, BATCH),
    "heartbeats": (decode_frames, BEAT),
    "snapshot parts": (decode_reply, PART),
    "requests": (decode_request, RESEND),
    "vllm live": (decode_live, FOREIGN),
    "vllm replay": (decode_replay, [b"", *FOREIGN]),
}


def mutate(rng: random.Random, frames):
    """A few bytes of one frame changed, cut, doubled or replaced; or frames missing."""
    frames = list(frames)
    place = rng.randrange(len(frames)) if rng.random() < 0.2 else len(frames) - 1
    data = bytearray(frames[place])
    kind = rng.random()
    if kind < 0.1:
        data = bytearray(rng.randbytes(rng.randint(0, 64)))
    elif kind < 0.2:
        data = data[: rng.randint(0, len(data))]
    elif kind < 0.25:
        data += rng.randbytes(rng.randint(1, 8))
    elif data:
        for _ in range(rng.randint(1, 4)):
            data[rng.randrange(len(data))] = rng.randrange(256)
    frames[place] = bytes(data)
    return frames[: rng.randint(0, len(frames))] if rng.random() < 0.02 else frames


@pytest.mark.parametrize(("decode", "frames"), DECODERS.values(), ids=DECODERS.keys())
def test_any_bytes_are_records_or_one_error(decode, frames):
    rng = random.Random(1)
    accepted = refused = 0
    for _ in range(ROUNDS):
        try:
            decode(mutate(rng, frames))
            accepted += 1
        except RemoteEventError:
            refused += 1
    assert accepted > 0
    assert refused > 0


@pytest.mark.parametrize(("decode", "frames"), DECODERS.values(), ids=DECODERS.keys())
def test_every_truncation_is_refused(decode, frames):
    payload = frames[-1]
    for length in range(len(payload)):
        with pytest.raises(RemoteEventError):
            decode([*frames[:-1], payload[:length]])


@pytest.mark.parametrize("decode", [decode_frames, decode_reply, decode_live, decode_replay])
@pytest.mark.parametrize(
    "payload",
    [
        b"\x91" * 100_000,
        b"\x81" * 100_000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdb\xff\xff\xff\xff",
        b"\xc1",
    ],
    ids=["arrays", "maps", "length bomb", "text bomb", "never used"],
)
def test_bombs_are_refused(decode, payload):
    for frames in ([b"rr1", bytes(8), payload], [b"", bytes(8), payload], [b"rr1.snap", payload]):
        with pytest.raises(RemoteEventError):
            decode(frames)


def test_an_epoch_of_any_text_is_read_or_refused():
    rng = random.Random(2)
    for _ in range(2000):
        text = "".join(chr(rng.randint(32, 300)) for _ in range(rng.randint(0, 40)))
        with pytest.raises(RemoteEventError):
            epoch_from_hex(text)
