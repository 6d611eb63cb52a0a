"""The compat form is vLLM's: its real frames come out of our encoder byte for byte."""

import json
from pathlib import Path

import msgspec
import numpy as np
import pytest

from radixroute.events.engines.foreign import ForeignReplayEnd, ForeignStored
from radixroute.events.engines.vllm import decode_live, decode_replay, encode_replay_request
from radixroute.events.errors import LocalEventError, RemoteEventError
from radixroute.events.wire.compat import (
    decode_replay_request,
    encode_compat,
    encode_replay_end,
    encode_replay_reply,
)
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.ids import BlockKey, Tier
from tests.events import strict_vllm
from tests.events.fakes import keys

RECORDED = Path(__file__).parents[1] / "data" / "vllm-kv-events.jsonl"
TOKENS = np.arange(8, dtype=np.uint32)


def recorded(channel):
    lines = (json.loads(line) for line in RECORDED.read_text().splitlines())
    return [
        [bytes.fromhex(frame) for frame in one["frames"]]
        for one in lines
        if one["channel"] == channel
    ]


def ours(event):
    """The record that means the same as one event of vLLM's."""
    if isinstance(event, strict_vllm.BlockStored):
        tokens = np.array(event.token_ids, dtype=np.uint32)
        parent = event.parent_block_hash
        return BlocksStored(
            None if parent is None else BlockKey(parent), keys(*event.block_hashes), tokens=tokens
        )
    if isinstance(event, strict_vllm.BlockRemoved):
        return BlocksRemoved(keys(*event.block_hashes))
    return CacheCleared()


def vars_of(event):
    return msgspec.structs.asdict(event)


def encode(*events, seq=0, block_size=4):
    return encode_compat(seq, events, ts=1.5, rank=0, block_size=block_size)


def test_frames_of_a_real_vllm_come_out_byte_for_byte():
    frames = recorded("pub")
    kinds = set()
    for sent in frames:
        seq, batch = strict_vllm.decode(sent)
        events = [ours(event) for event in batch.events]
        kinds |= {type(event) for event in events}
        again = encode_compat(seq, events, ts=batch.ts, rank=0, block_size=32)
        assert list(again) == sent
    assert kinds == {BlocksStored, BlocksRemoved, CacheCleared}
    assert len(frames) == 10


def test_replies_to_replays_come_out_byte_for_byte():
    sent_by_seq = {}
    replies = recorded("replay")
    assert len(replies) > 10
    for reply in replies:
        if reply[-2] == strict_vllm.END_SEQ:
            assert list(encode_replay_end()) == reply
        else:
            assert list(encode_replay_reply(reply[1:])) == reply
            sent_by_seq[reply[2]] = reply[1:]
    assert sent_by_seq


def test_a_removal_of_many_blocks_is_told_one_by_one():
    _, batch = strict_vllm.decode(encode(BlocksRemoved(keys(3, 2, 1))))
    removed = [(type(event).__name__, vars_of(event)["block_hashes"]) for event in batch.events]
    assert removed == [("BlockRemoved", [3]), ("BlockRemoved", [2]), ("BlockRemoved", [1])]


@pytest.mark.parametrize(
    ("tier", "medium"), [(Tier.DEVICE, "GPU"), (Tier.HOST, "CPU"), (Tier.DISK, "STORAGE")]
)
def test_tiers_come_back_as_media(tier, medium):
    stored = BlocksStored(None, keys(1, 2), tier, TOKENS)
    frames = encode(stored, BlocksRemoved(keys(2), tier))
    _, batch = strict_vllm.decode(frames)
    for events in (batch.events, decode_live(frames).events):
        assert [vars_of(event)["medium"] for event in events] == [medium, medium]


def test_any_key_and_token_survives():
    tokens = TOKENS + np.uint32(2**32 - 8)
    big = BlocksStored(BlockKey(2**64 - 1), keys(2**63, 1), tokens=tokens)
    frames = encode(big, seq=2**64 - 2)
    batch = decode_live(frames)
    (event,) = batch.events
    assert isinstance(event, ForeignStored)
    assert (batch.seq, batch.skipped, batch.rank) == (2**64 - 2, 0, 0)
    assert (event.parent, event.hashes) == (2**64 - 1, (2**63, 1))
    assert event.token_ids.tolist() == tokens.tolist()


@pytest.mark.parametrize("tokens", [None, TOKENS[:7], TOKENS[:4]])
def test_a_store_without_its_tokens_is_our_error(tokens):
    with pytest.raises(LocalEventError, match="tokens"):
        encode(BlocksStored(None, keys(1, 2), tokens=tokens))


def test_replays_are_asked_for_as_vllm_is_asked():
    assert decode_replay_request(encode_replay_request(7)) == 7
    assert isinstance(decode_replay(encode_replay_end()), ForeignReplayEnd)


@pytest.mark.parametrize(
    "frames", [[], [b""], [b"", b"7"], [b"x", bytes(8)], [b"", bytes(8), b""], [bytes(8)]]
)
def test_other_requests_are_refused(frames):
    with pytest.raises(RemoteEventError):
        decode_replay_request(frames)


def test_tokens_are_in_no_repr():
    assert "tokens" not in repr(BlocksStored(None, keys(1, 2), tokens=TOKENS))


def test_the_strict_consumer_is_strict():
    good = encode(BlocksStored(None, keys(1), tokens=TOKENS[:4]))
    batch = msgspec.msgpack.decode(good[2])
    longer = [*batch, None]
    batch[1][0]["extra"] = 1
    for bad in (longer, batch):
        with pytest.raises(msgspec.ValidationError):
            strict_vllm.decode([good[0], good[1], msgspec.msgpack.encode(bad)])
