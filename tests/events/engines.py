"""A foreign engine of several ranks behind one endpoint, and a router's end that follows it."""

import random
from collections import Counter
from typing import Any

import msgpack
import numpy as np

from radixroute.events.engines.engine_stream import ApplyTo, AskReplay, EngineStream
from radixroute.events.engines.vllm import decode_live, decode_replay, encode_replay_request
from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.ids import Holder, Tier, WorkerId
from radixroute.radix.index.prefix_index import PrefixIndex
from radixroute.radix.keys.block_keys import block_keys
from radixroute.radix.keys.scope import Scope

SIZE = 2
SCOPE = Scope(model_fingerprint="m", block_size=SIZE)
MEDIA = {Tier.DEVICE: "GPU", Tier.HOST: "CPU_PINNED", Tier.DISK: "DISK"}
END = b"\xff" * 8
LAYOUTS = {"before 0.26, SGLang": (), "since 0.26": (b"topic",)}  # frames before the seq

Held = Counter[tuple[int, Tier]]


class FakeRank:
    """A cache that grows chains, stores second copies, evicts and clears; hashes are its own."""

    def __init__(self, rng: random.Random) -> None:
        self._rng = rng
        self._copies: Counter[tuple[int, Tier]] = Counter()
        self._paths: dict[int, tuple[int | None, list[int]]] = {}  # hash -> parent, tokens so far

    def truth(self) -> Held:
        """Copies by (our key, tier)."""
        return Counter({(self._key(name), tier): n for (name, tier), n in self._copies.items()})

    def step(self) -> list[Any]:
        return [self._event() for _ in range(self._rng.randint(1, 3))]

    def _event(self) -> Any:
        choice = self._rng.random()
        held = sorted(self._copies)
        if choice < 0.01:
            self._copies.clear()
            return {"type": "AllBlocksCleared"}
        if choice < 0.3 and held:
            name, tier = self._rng.choice(held)
            self._copies[name, tier] -= 1
            self._copies += Counter()
            return {"type": "BlockRemoved", "block_hashes": [name], "medium": MEDIA[tier]}
        return self._store(sorted({name for name, _ in held}))

    def _store(self, held: list[int]) -> Any:
        rng = self._rng
        again = [name for name in held if self._paths[name][0] in (None, *held)]
        tier = rng.choice(list(Tier))
        if again and rng.random() < 0.2:
            names = [rng.choice(again)]
            parent, path = self._paths[names[0]]
            tokens = path[-SIZE:]
        else:
            parent = rng.choice([None, *held])
            names = [rng.getrandbits(64) - 2**63 for _ in range(rng.randint(1, 3))]
            tokens = [rng.getrandbits(16) for _ in range(SIZE * len(names))]
            above, path = parent, [] if parent is None else self._paths[parent][1]
            for number, name in enumerate(names):
                path = path + tokens[number * SIZE : (number + 1) * SIZE]
                self._paths[name] = above, path
                above = name
        for name in names:
            self._copies[name, tier] += 1
        if rng.random() < 0.5:
            return ["BlockStored", names, parent, tokens, SIZE, None, MEDIA[tier]]
        return {
            "type": "BlockStored", "block_hashes": names, "parent_block_hash": parent,
            "token_ids": tokens, "block_size": SIZE, "medium": MEDIA[tier],
        }  # fmt: skip

    def _key(self, name: int) -> int:
        tokens = np.array(self._paths[name][1], np.uint32)
        return int(block_keys(tokens, SIZE, SCOPE.seed)[-1])


class FakeEngine:
    """One publisher process: one seq for all ranks, a ring for replays."""

    def __init__(self, rng: random.Random, ranks: int, ring: int, before_seq=()) -> None:
        self._rng = rng
        self._before_seq = before_seq
        self.ranks = [FakeRank(rng) for _ in range(ranks)]
        self._ring = ring
        self._kept: list[list[bytes]] = []
        self._n = 0

    def step(self) -> list[bytes]:
        """The frames of the next batch."""
        rank = self._rng.randrange(len(self.ranks))
        payload = msgpack.packb([1.5, self.ranks[rank].step(), rank])
        frames = [self._n.to_bytes(8, "big"), payload]
        self._n += 1
        self._kept = [*self._kept, frames][-self._ring :]
        return [b"topic", *frames]

    def replay(self, request: list[bytes]) -> list[list[bytes]]:
        """What a DEALER gets."""
        delimiter, start = request
        assert delimiter == b""
        assert len(start) == 8
        kept = [frames for frames in self._kept if frames[0] >= start]
        head = [b"", *self._before_seq]
        end = [b"", *(b"" for _ in self._before_seq), END, b""]
        return [*([*head, *frames] for frames in kept), end]


class EngineEnd:
    """A stream whose actions are carried out on a real index, one holder a rank."""

    def __init__(self, ranks: int) -> None:
        self.stream = EngineStream(SCOPE, range(ranks))
        self.index = PrefixIndex()
        self.holders = [Holder(WorkerId("engine"), rank) for rank in range(ranks)]
        for holder in self.holders:
            self.index.join(holder)
        self.asked: list[AskReplay] = []

    def live(self, frames: list[bytes], now_ns: int) -> None:
        self.carry_out(self.stream.receive(decode_live(frames), now_ns))

    def replayed(self, number: int, frames: list[bytes], now_ns: int) -> None:
        item = decode_replay(frames)
        self.carry_out(self.stream.receive_replayed(number, item, now_ns))

    def request(self) -> tuple[int, list[bytes]]:
        """The replay that counts, the last asked for: its number and the frames to send."""
        asked = self.asked[-1]
        self.asked.clear()
        return asked.number, encode_replay_request(asked.from_seq)

    def held(self, rank: int) -> Held:
        runs = self.index.dump(self.holders[rank])
        return Counter((key, run.tier) for run in runs for key in run.keys.tolist())

    def carry_out(self, actions) -> None:
        for action in actions:
            if isinstance(action, AskReplay):
                self.asked.append(action)
                continue
            assert isinstance(action, ApplyTo)
            holder = self.holders[action.rank]
            for event in action.events:
                match event:
                    case BlocksStored(parent, keys, tier):
                        self.index.store(holder, parent, keys, tier)
                    case BlocksRemoved(keys, tier):
                        assert self.index.remove(holder, keys, tier) == 0
                    case CacheCleared():
                        self.index.clear(holder)
