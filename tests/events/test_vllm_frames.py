"""Frames of a real vLLM engine drive an index to the state they imply (block size 32)."""

import json
from collections import Counter
from pathlib import Path

import msgpack
import numpy as np
import pytest

from radixroute.events.engines.adapter import AdapterCounters, EngineAdapter
from radixroute.events.engines.foreign import ForeignReplayEnd
from radixroute.events.engines.vllm import decode_live, decode_replay, encode_replay_request
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.ids import BlockKey, Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope

DATA = Path(__file__).parents[1] / "data" / "vllm-kv-events.jsonl"
LINES = [json.loads(line) for line in DATA.read_text().splitlines()]
SCOPE = Scope(model_fingerprint="smol", block_size=32)
HOLDER = Holder(WorkerId("vllm"), 0)


def lines(channel: str, scenario: str):
    return [line for line in LINES if line["channel"] == channel and line["scenario"] == scenario]


def frames_of(line):
    return [bytes.fromhex(frame) for frame in line["frames"]]


def replayed(frames):
    return decode_replay(frames)


def keys_of(tokens):
    return block_keys(np.array(tokens, dtype=np.uint32), 32, SCOPE.seed)


class Follower:
    """An index fed through the adapter."""

    def __init__(self) -> None:
        self.adapter = EngineAdapter(SCOPE)
        self.index = PrefixIndex()
        self.index.join(HOLDER)

    def follow(self, batch) -> None:
        assert batch.skipped == 0
        for foreign in batch.events:
            for event in self.adapter.translate(foreign):
                self._apply(event)
        self.adapter.check()
        self.index.check()

    def _apply(self, event) -> None:
        match event:
            case BlocksStored(parent, keys, tier):
                self.index.store(HOLDER, parent, keys, tier)
            case BlocksRemoved(keys, tier):
                assert self.index.remove(HOLDER, keys, tier) == 0
            case CacheCleared():
                self.index.clear(HOLDER)


class RawTruth:
    """What the engine holds, from the raw messages alone: hash -> the tokens up to its block."""

    def __init__(self) -> None:
        self.copies: Counter[int] = Counter()
        self.path: dict[int, tuple[int, ...]] = {}

    def follow(self, payload: bytes) -> None:
        for event in msgpack.unpackb(payload)[1]:
            if event["type"] == "AllBlocksCleared":
                self.copies.clear()
            elif event["type"] == "BlockRemoved":
                self.copies.subtract(event["block_hashes"])
            else:
                self._store(event)

    def _store(self, event) -> None:
        path = () if event["parent_block_hash"] is None else self.path[event["parent_block_hash"]]
        tokens = event["token_ids"]
        for index, engine_hash in enumerate(event["block_hashes"]):
            path += tuple(tokens[index * 32 : (index + 1) * 32])
            self.path[engine_hash] = path
            self.copies[engine_hash] += 1

    def resident_keys(self) -> set[int]:
        held = [self.path[name] for name, count in self.copies.items() if count > 0]
        return {int(keys_of(path)[-1]) for path in held}


def test_shared_prefixes_end_in_the_blocks_the_requests_filled():
    follower = Follower()
    for line in lines("pub", "shared-prefix"):
        follower.follow(decode_live(frames_of(line)))
    wanted: set[int] = set()
    for request in lines("request", "shared-prefix"):
        # The last output token was sampled, but its KV was never computed.
        tokens = request["prompt_token_ids"] + request["output_token_ids"][:-1]
        wanted |= set(keys_of(tokens).tolist())
        overlaps = follower.index.overlaps(keys_of(tokens))
        assert overlaps.blocks_of(HOLDER) == len(tokens) // 32
    assert follower.index.n_blocks(HOLDER) == len(wanted)
    assert follower.adapter.n_blocks == len(wanted)
    assert follower.adapter.counters == AdapterCounters()


@pytest.mark.parametrize("scenarios", [["shared-prefix"], ["evict", "after-reset"]])
def test_after_each_message_the_index_holds_what_the_raw_messages_say(scenarios):
    follower, truth = Follower(), RawTruth()
    seqs = []
    for line in [line for scenario in scenarios for line in lines("pub", scenario)]:
        frames = frames_of(line)
        batch = decode_live(frames)
        seqs.append(batch.seq)
        follower.follow(batch)
        truth.follow(frames[2])
        wanted = truth.resident_keys()
        assert wanted
        assert follower.index.n_blocks(HOLDER) == len(wanted)
        assert all(follower.index.holds(HOLDER, BlockKey(key)) for key in wanted)
    assert seqs == list(range(len(seqs)))
    assert follower.adapter.counters == AdapterCounters()


def test_the_evict_frames_really_evict():
    follower = Follower()
    for line in lines("pub", "evict"):
        follower.follow(decode_live(frames_of(line)))
    first, last = lines("request", "evict")[0], lines("request", "evict")[-1]
    held = [
        follower.index.overlaps(keys_of(request["prompt_token_ids"])).blocks_of(HOLDER)
        for request in (first, last)
    ]
    assert held == [0, 31]


def test_two_resets_leave_only_what_came_after():
    follower = Follower()
    for scenario in ("evict", "after-reset"):
        for line in lines("pub", scenario):
            follower.follow(decode_live(frames_of(line)))
    old = lines("request", "evict")[-1]["prompt_token_ids"]
    new = lines("request", "after-reset")[-1]["prompt_token_ids"]
    assert follower.index.n_blocks(HOLDER) == len(new) // 32
    assert follower.index.overlaps(keys_of(new)).blocks_of(HOLDER) == len(new) // 32
    assert follower.index.overlaps(keys_of(old)).blocks_of(HOLDER) == 0


@pytest.mark.parametrize("scenario", ["shared-prefix", "evict"])
def test_a_replay_says_what_was_said_live(scenario):
    live = {decode_live(frames).seq: frames for frames in map(frames_of, lines("pub", scenario))}
    answers: dict[int, list[list[bytes]]] = {}
    for line in lines("replay", scenario):
        answers.setdefault(int(line["request_frames"][1], 16), []).append(frames_of(line))
    assert sorted(answers) == [0, 2]
    for start, replies in answers.items():
        assert isinstance(decode_replay(replies.pop()), ForeignReplayEnd)
        seqs = [replayed(frames).seq for frames in replies]
        assert seqs == list(range(start, start + len(seqs)))
        assert seqs[-1] == max(live)
        assert [frames[-1] for frames in replies] == [live[seq][-1] for seq in seqs]


def test_a_replay_request_has_the_delimiter_engines_insist_on():
    assert encode_replay_request(2) == [b"", (2).to_bytes(8, "big")]


def test_both_replay_layouts_are_read():
    payload = msgpack.packb([1.0, [], None])
    for frames in ([b"", bytes(8), payload], [b"", b"topic", bytes(8), payload]):
        assert replayed(frames).seq == 0
    for end in ([b"", b"\xff" * 8, b""], [b"", b"", b"\xff" * 8, b""]):
        assert isinstance(decode_replay(end), ForeignReplayEnd)


def test_tiers_are_counted_apart():
    follower = Follower()
    line = lines("pub", "shared-prefix")[0]
    batch = msgpack.unpackb(frames_of(line)[2])
    on_host = [{**event, "medium": "CPU"} for event in batch[1]]
    for seq, events in enumerate((batch[1], on_host)):
        payload = msgpack.packb([1.0, events, 0])
        follower.follow(decode_live([b"", seq.to_bytes(8, "big"), payload]))
    prompt = lines("request", "shared-prefix")[0]["prompt_token_ids"]
    overlaps = follower.index.overlaps(keys_of(prompt))
    assert follower.index.n_blocks(HOLDER) == 8
    assert overlaps.by_tier(HOLDER)[Tier.DEVICE] == 4
