"""A consumer as strict as can be: vLLM's own structs, nothing unknown, nothing longer.

Written from vLLM's `kv_events.py` and not from our encoder. What it decodes it encodes again:
equal bytes mean that nothing was added, left out or put elsewhere.
"""

import time

import msgspec
import zmq

PATIENCE_S = 30.0
END_SEQ = b"\xff" * 8


class _Event(msgspec.Struct, omit_defaults=True, forbid_unknown_fields=True, tag=True):
    pass


class BlockStored(_Event):
    block_hashes: list[int]
    parent_block_hash: int | None
    token_ids: list[int]
    block_size: int
    lora_id: int | None
    medium: str | None
    lora_name: str | None
    extra_keys: list[list[str] | None] | None = None
    group_idx: int | None = None
    kv_cache_spec_kind: str | None = None
    kv_cache_spec_sliding_window: int | None = None
    locality: str | None = None
    ownership: str | None = None
    session_id: str | None = None


class BlockRemoved(_Event):
    block_hashes: list[int]
    medium: str | None
    group_idx: int | None = None
    locality: str | None = None
    ownership: str | None = None


class AllBlocksCleared(_Event):
    pass


class KVEventBatch(msgspec.Struct, array_like=True, omit_defaults=True, forbid_unknown_fields=True):
    ts: float
    events: list[BlockStored | BlockRemoved | AllBlocksCleared]
    data_parallel_rank: int | None = None


_DECODER = msgspec.msgpack.Decoder(KVEventBatch)


def decode(frames) -> tuple[int, KVEventBatch]:
    """A batch and its seq. Raises for whatever vLLM would not have sent."""
    topic, seq, payload = frames
    assert topic == b"kv-events"
    assert len(seq) == 8
    batch = _DECODER.decode(payload)
    assert msgspec.msgpack.encode(batch) == payload
    return int.from_bytes(seq, "big"), batch


class StrictIndex:
    """Which blocks are resident, by hash; every event must make sense."""

    def __init__(self):
        self.tokens = {}  # hash -> (parent, its block's tokens)
        self.spaces = {}  # hash -> (LoRA name, salt); of removed ones too
        self.stored = self.removed = 0

    def apply(self, batch):
        for event in batch.events:
            if isinstance(event, BlockStored):
                self._store(event)
            elif isinstance(event, BlockRemoved):
                assert len(event.block_hashes) == 1, "vLLM tells each evicted block by itself"
                del self.tokens[event.block_hashes[0]]
                self.removed += 1
            else:
                self.tokens.clear()

    def _store(self, event):
        size, parent = event.block_size, event.parent_block_hash
        assert len(event.token_ids) == len(event.block_hashes) * size
        assert event.extra_keys is not None
        assert len(event.extra_keys) == len(event.block_hashes)
        assert parent is None or parent in self.tokens
        for number, one in enumerate(event.block_hashes):
            assert one not in self.tokens, "a block is stored that was there already"
            tokens = tuple(event.token_ids[number * size : (number + 1) * size])
            self.tokens[one] = parent, tokens
            self.spaces[one] = self._space(event, number, parent)
            parent = one
            self.stored += 1

    def _space(self, event, number, parent):
        """A LoRA's name stands in every block, a salt in a prompt's first one alone."""
        names = [event.lora_name] if event.lora_name else []
        extra = event.extra_keys[number] or []
        assert event.extra_keys[number] != [], "vLLM says nil where there is nothing"
        assert extra[: len(names)] == names
        if parent is None:
            (salt,) = extra[len(names) :] or [""]
            return event.lora_name or "", salt
        assert extra == names
        assert self.spaces[parent][0] == (event.lora_name or "")
        return self.spaces[parent]

    def prefix(self, one):
        """The tokens of a block and of all before it."""
        parent, tokens = self.tokens[one]
        return tokens if parent is None else self.prefix(parent) + tokens


class Subscriber:
    """SUB and DEALER as other routers use them: live batches, and a replay of what was missed."""

    def __init__(self, endpoints, receive_high_water_mark=0):
        self._context = zmq.Context()
        self.live = self._context.socket(zmq.SUB)
        self.live.setsockopt(zmq.RCVHWM, receive_high_water_mark)
        self.live.subscribe(b"")
        self.live.connect(endpoints.events)
        self.control = self._context.socket(zmq.DEALER)
        self.control.connect(endpoints.control)

    def receive(self, timeout_s=0.0):
        """The frames of the next live batch; None if there is none."""
        return self.live.recv_multipart() if self.live.poll(int(timeout_s * 1000)) else None

    def replay(self, from_seq):
        """The frames of every batch that is sent again."""
        self.control.send_multipart([b"", from_seq.to_bytes(8, "big")])
        batches: list[list[bytes]] = []
        while True:
            assert self.control.poll(int(PATIENCE_S * 1000)), "no end of the replay"
            empty, topic, seq, payload = self.control.recv_multipart()
            assert empty == b""
            if seq == END_SEQ:
                assert (topic, payload) == (b"", b"")
                return batches
            batches.append([topic, seq, payload])

    def catch_up(self):
        """What came live so far, with all that was missed before it."""
        frames = self.receive(PATIENCE_S)
        assert frames is not None, "nothing came live"
        n_missed = int.from_bytes(frames[1], "big")
        return [*self.replay(0)[:n_missed], frames]

    def until(self, last_seq):
        """Frames by seq of all batches up to this one, and how many of them came live."""
        deadline = time.monotonic() + PATIENCE_S
        found: dict[int, list[bytes]] = {}
        while last_seq not in found:
            assert time.monotonic() < deadline, f"seq {last_seq} did not arrive: {sorted(found)}"
            frames = self.receive(0.05)
            if frames is not None:
                found[int.from_bytes(frames[1], "big")] = frames
        n_live = len(found)
        if len(found) <= last_seq:  # it joined late
            again = {int.from_bytes(frames[1], "big"): frames for frames in self.replay(0)}
            assert all(again[seq] == frames for seq, frames in found.items())
            found = again | found
        return {seq: found[seq] for seq in range(last_seq + 1)}, n_live

    def stop(self):
        self._context.destroy(linger=0)
