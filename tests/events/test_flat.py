"""Flat events against the decoder and the adapter that know every form: the same, or nothing."""

import random
from typing import Any

import msgpack
import msgspec
import numpy as np
import pytest

from radixroute.events.engines.adapter import EngineAdapter
from radixroute.events.engines.flat import FlatEvents, decode_flat
from radixroute.events.engines.foreign import ForeignBatch
from radixroute.events.engines.vllm import decode_live, decode_unusual
from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.packed import PackedEvents
from radixroute.radix.keys.scope import Scope
from tests.events.test_packed import mutated
from tests.events.test_packed import plain as plain_ours

ROUNDS = 20_000
SCOPE = Scope("model", 2, lora="ignored by prompts without their own")


class Engine:
    """Says what engines say, some of it nonsense: stores, removals and clears of a few prompts."""

    def __init__(self, rng: random.Random, has_digests: bool = False) -> None:
        self.rng = rng
        self.has_digests = has_digests
        self.names: list[Any] = [self.name()]

    def name(self) -> Any:
        if self.has_digests:
            return self.rng.randbytes(32)
        odd = self.rng.random()
        return self.rng.getrandbits(64) if odd < 0.9 else int(odd < 0.91) - self.rng.getrandbits(63)

    def event(self) -> dict[str, Any]:
        rng = self.rng
        kind = rng.random()
        if kind < 0.01:
            return {"type": "AllBlocksCleared"}
        where: dict[str, Any] = {"medium": rng.choice((*["GPU"] * 9, None, "cpu", "Disk", "moon"))}
        where["group_idx"] = rng.choice((*[0] * 20, None, 1, 2, 61, 70, 300))
        if rng.random() < 0.1:
            where |= {"locality": rng.choice((None, "LOCAL", "REMOTE"))}
        if kind < 0.3:
            gone = [rng.choice(self.names) for _ in range(rng.choice((0, 1, 3)))]
            return {"type": "BlockRemoved", "block_hashes": gone, **where}
        if rng.random() < 0.5:
            kinds = ("full_attention", "mla_attention", None)
            is_window = where["group_idx"] in {None, 2, 61, 70}
            where["kv_cache_spec_kind"] = "sliding_window" if is_window else rng.choice(kinds)
        return {"type": "BlockStored", **self.stored(rng.choice((0, 1, 2, 5, 70))), **where}

    def stored(self, n: int) -> dict[str, Any]:
        rng = self.rng
        again = rng.choice((0, 0, 0, 0.1))
        names = [rng.choice(self.names) if rng.random() < again else self.name() for _ in range(n)]
        parent = rng.choice((None, None, None, *rng.choices(self.names, k=3), self.name()))
        tokens = [rng.getrandbits(rng.choice((1, 1, 9, 17, 32))) for _ in range(2 * n)]
        size = 2
        if rng.random() < 0.1:
            size, tokens = rng.choice(((0, []), (3, tokens), (2, tokens[1:])))
        self.names = [*self.names, *names][-60:]
        event: dict[str, Any] = {
            "block_hashes": names, "parent_block_hash": parent, "token_ids": tokens,
            "block_size": size,
        }  # fmt: skip
        if rng.random() < 0.5:
            event |= {"lora_id": None, "lora_name": None, "extra_keys": rng.choice((None, [None]))}
        if rng.random() < 0.3:
            event["extra_keys"] = [rng.choice((None, None, None, ["salt"])) for _ in range(n)]
        if rng.random() < 0.1:
            event["unheard_of"] = rng.choice((1, -3, 1.5, "x", b"y", [1, ["z"]], True, None))
        return event

    def payload(self) -> bytes:
        events = [self.event() for _ in range(self.rng.choice((0, 1, 1, 3)))]
        more = self.rng.choice(((), (None,), (0,), (300,)))
        payload: bytes = msgpack.packb([1.5, events, *more])
        return payload


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


@pytest.mark.parametrize("has_digests", [False, True])
def test_what_is_flat_says_what_the_other_decoder_says(has_digests):
    engine = Engine(random.Random(3), has_digests)
    n_flat = 0
    for _ in range(2000):
        payload = engine.payload()
        flat = decode_flat(7, payload)
        if flat is not None:
            n_flat += 1
            assert plain(flat) == plain(decode_unusual((7).to_bytes(8, "big"), payload))
            assert len(flat.events) == len(tuple(flat.events))
    assert n_flat > 1000


def test_any_bytes_are_read_as_the_other_decoder_reads_them_or_left_to_it():
    rng = random.Random(2)
    engines = Engine(rng), Engine(rng, has_digests=True)
    n_flat = n_left = 0
    for number in range(ROUNDS):
        source = engines[number % 2].payload() if number % 3 else payload_of(rng)
        payload = mutated(source, rng)
        flat = decode_flat(0, payload)
        if flat is None:
            n_left += 1
            continue
        n_flat += 1
        try:
            slow = decode_unusual(bytes(8), payload)
        except RemoteEventError as error:
            pytest.fail(f"flat, and refused by the other decoder ({error}): {payload.hex()}")
        assert plain(flat) == plain(slow), payload.hex()
    assert n_flat > ROUNDS / 10
    assert n_left > ROUNDS / 10


NO_TEXT = (b"\xff", b"\xc3", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe2\x82")
EVENT: dict[str, Any] = {
    "type": "BlockStored", "block_hashes": [1], "token_ids": [1], "block_size": 1,
}  # fmt: skip


@pytest.mark.parametrize("bad", NO_TEXT, ids=bytes.hex)
@pytest.mark.parametrize("field", ["type", "medium", "lora_name", "later", "name", "nested", "key"])
def test_text_that_is_none_is_refused_by_both_wherever_it_stands(field, bad):
    text = "@" * len(bad)  # stands for the bad bytes: no packer writes those
    places: dict[str, dict[str, Any]] = {
        "name": {text: 1}, "nested": {"later": [1, ["x", text]]}, "key": {"later": {text: 1}},
    }  # fmt: skip
    more = places.get(field, {field: text})
    payload = msgpack.packb([1.5, [EVENT | more], 0]).replace(text.encode(), bad)
    assert decode_flat(0, payload) is None
    with pytest.raises(RemoteEventError):
        decode_live([b"", bytes(8), payload])


@pytest.mark.parametrize("text", ["é", "日本", "\U0001f600", "\x00", "\x7f"])
def test_text_that_is_not_ascii_is_read_alike_wherever_it_stands(text):
    for more in ({text: 1}, {"later": [text]}, {"medium": text}, {"lora_name": text}):
        payload = msgpack.packb([1.5, [EVENT | more], 0])
        slow = plain(decode_unusual(bytes(8), payload))
        assert plain(decode_live([b"", bytes(8), payload])) == slow
        flat = decode_flat(0, payload)
        assert flat is None or plain(flat) == slow


@pytest.mark.parametrize("cut", ["all", "rank", "middle"])
def test_torn_payloads_are_not_flat(cut):
    hashes = list(range(20))
    event = {"type": "BlockStored", "block_hashes": hashes, "token_ids": hashes, "block_size": 1}
    whole = msgpack.packb([1.5, [event, event], 0])
    assert decode_flat(0, whole) is not None
    end = {"all": 0, "rank": len(whole) - 1, "middle": len(whole) // 2}[cut]
    assert decode_flat(0, whole[:end]) is None
    assert decode_flat(0, whole + b"\x00") is None


def test_what_is_no_batch_is_left_to_the_other_decoder_which_refuses_it():
    for payload in (b"", b"\xc1", msgpack.packb({"ts": 1}), msgpack.packb([1.0])):
        assert decode_flat(0, payload) is None
        with pytest.raises(RemoteEventError):
            decode_unusual(bytes(8), payload)


@pytest.mark.parametrize(
    "tokens", [[-1], [2**32], [2**64 - 1], [True], [1, True], [1.0], ["1"], [[1]], [[1, 2], 3]]
)
def test_token_ids_that_are_none_cost_their_event_alone(tokens):
    event = {"type": "BlockStored", "block_hashes": [1], "block_size": 1}
    events = [event | {"token_ids": one} for one in (tokens, [2**32 - 1])]
    batch = decode_live([b"", bytes(8), msgpack.packb([1.5, events])])
    assert batch.skipped == 1
    assert [one.token_ids.tolist() for one in batch.events] == [[2**32 - 1]]  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "more",
    [
        {"block_hashes": [1, bytes(31) + b"\x01"]},  # of two widths
        {"block_hashes": [bytes(33), b""]},
        {"lora_name": "adapter"},
        {"lora_id": 3},
        {"cache_salt": "salt"},
        {"extra_keys": [["salt"], None]},
        {"medium": "GPÜ"},
        {"group_idx": 62},
        {"token_ids": [[1, 2], 3]},
        {"token_ids": [-1, 2]},
        {"token_ids": [2**32, 2]},
        {"later": {"a": "map"}},
        {7: 7},
    ],
    ids=repr,
)
def test_what_is_not_plain_is_left_to_the_other_decoder(more):
    event = {"type": "BlockStored", "block_hashes": [1, 2], "token_ids": [1, 2], "block_size": 1}
    assert decode_flat(0, msgpack.packb([1.5, [event], 0])) is not None
    assert decode_flat(0, msgpack.packb([1.5, [event | more], 0])) is None


@pytest.mark.parametrize("seed", range(6))
def test_flat_batches_become_the_events_that_their_records_become(seed):
    engine = Engine(random.Random(seed), has_digests=seed % 3 == 2)
    fast, slow = EngineAdapter(SCOPE), EngineAdapter(SCOPE)
    n_flat = n_events = 0
    for number in range(600):
        if seed == 1 and number == 200:
            engine.has_digests = True  # never seen, and must not be confused either
        payload = engine.payload()
        batch = decode_live([b"", bytes(8), payload])
        got = fast.translate_all(batch.events)
        events = decode_unusual(bytes(8), payload).events
        expected = [ours for event in events for ours in slow.translate(event)]
        assert [plain_ours(event) for event in got] == [plain_ours(event) for event in expected]
        assert (fast.counters, fast.n_blocks) == (slow.counters, slow.n_blocks)
        if isinstance(batch.events, FlatEvents):
            assert isinstance(got, PackedEvents)
            n_flat += 1
            n_events += len(got)
        if number % 20 == 0:
            fast.check()
            slow.check()
    assert n_flat > 300
    assert n_events > 60
    dropped = fast.counters
    assert min(dropped.other_groups, dropped.unknown_parents, dropped.unknown_removals) > 0
    assert min(dropped.self_referring, dropped.unresolved_blocks, dropped.wrong_lengths) > 0


def test_without_room_for_names_a_batch_is_dropped_and_counted():
    adapter = EngineAdapter(SCOPE, max_name_bytes=1 << 15)
    for number in range(120):
        first = 10 * number
        event = {
            "type": "BlockStored", "block_hashes": list(range(first, first + 10)),
            "parent_block_hash": None, "token_ids": list(range(20)), "block_size": 2,
        }  # fmt: skip
        batch = decode_live([b"", bytes(8), msgpack.packb([1.5, [event], 0])])
        assert isinstance(batch.events, FlatEvents)
        event_count = len(adapter.translate_all(batch.events))
        assert event_count == (1 if first < 920 else 0)
    assert adapter.n_blocks == 920
    assert adapter.counters.too_many_names == 120 - 92
    adapter.check()
