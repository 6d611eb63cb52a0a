"""Long-run fuzzer of every decoder of the event room; `make fuzz-events`.

Valid frames with bytes changed, cut and doubled, valid structures with one value replaced by an odd
one, and random bytes. Each input must become a record or one `RemoteEventError` (a fast path: a
record or nothing), and memory must stay where it was after the first fifth.
"""

import argparse
import gc
import random
import resource
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgpack

from radixroute.events.engines.flat import decode_flat
from radixroute.events.engines.vllm import decode_live, decode_replay, decode_unusual
from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.control import (
    ResendDone,
    ResendRequest,
    SnapshotRequest,
    decode_reply,
    decode_request,
    encode_part,
    encode_request,
    encode_resend_done,
)
from radixroute.events.wire.epoch import make_epoch
from radixroute.events.wire.native import (
    decode_frames,
    decode_slowly,
    encode_batch,
    encode_heartbeat,
)
from radixroute.events.wire.packed import Packer
from radixroute.events.wire.records import (
    BlocksStored,
    EventBatch,
    Heartbeat,
    LoadReport,
    SessionLoad,
    SnapshotPart,
)
from radixroute.radix.digest import Account
from tests.events.test_flat import payload_of
from tests.events.test_packed import mutated, some_events

INPUTS = 5_000_000
SAMPLES = 200  # valid messages of each kind
MAX_GROWTH_BYTES = 8 << 20
EPOCH = make_epoch(7, b"fuzzfuzz")
ODD: tuple[Any, ...] = (
    None, True, -1, 0, 1, 255, 2**31, 2**32, 2**63, 2**64 - 1, -(2**63), 0.0, float("nan"),
    float("inf"), "", "GPU", "\x00", b"", b"\xff" * 7, b"\x01" * 16, [], [[]], {}, {"type": []},
    [1, 2], ["S"], ["BlockStored"], msgpack.ExtType(5, b"x"), msgpack.Timestamp(1, 1),
)  # fmt: skip

Frames = list[bytes]


@dataclass(frozen=True)
class Target:
    """A decoder, and valid messages to begin with. None from it: left to another decoder."""

    decode: Callable[[Frames], object]
    samples: list[Frames]


@dataclass
class Tally:
    """What one run saw."""

    accepted: Counter[str] = field(default_factory=Counter)
    refused: Counter[str] = field(default_factory=Counter)
    resident: list[int] = field(default_factory=list)  # bytes after each fifth

    @property
    def growth(self) -> int:
        """Bytes from the end of the first fifth to the end of the last."""
        return self.resident[-1] - self.resident[0]


def targets(rng: random.Random) -> dict[str, Target]:
    """Every decoder of the room, by name."""
    packer = Packer()
    batches = [
        encode_batch(EventBatch(EPOCH, rng.randrange(3), seq, some_events(rng), 1.5))
        for seq in range(SAMPLES)
    ]
    foreign = [[b"kv", seq.to_bytes(8, "big"), payload_of(rng)] for seq in range(SAMPLES)]
    sglang = [[b"", seq.to_bytes(8, "big"), _sglang(rng)] for seq in range(SAMPLES)]
    ends = [[b"", b"\xff" * 8, b""], [b"", b"", b"\xff" * 8, b""]]
    replays = [[b"", *frames[rng.randrange(2) :]] for frames in foreign + sglang]
    return {
        "native": Target(decode_frames, batches),
        "native, typed": Target(lambda frames: decode_slowly(frames[-2], frames[-1]), batches),
        "native, packed": Target(lambda frames: packer.pack(frames[-1]), batches),
        "heartbeat": Target(decode_frames, [_heartbeat(rng) for _ in range(SAMPLES)]),
        "snapshot": Target(decode_reply, [_part(rng) for _ in range(SAMPLES)]),
        "replay": Target(decode_reply, [*batches, encode_resend_done(ResendDone(EPOCH, 3))]),
        "request": Target(
            decode_request,
            [encode_request(ResendRequest(1, 2)), encode_request(SnapshotRequest())],
        ),
        "vllm": Target(decode_live, foreign),
        "vllm, flat": Target(lambda frames: decode_flat(0, frames[-1]), foreign),
        "vllm, general": Target(lambda frames: decode_unusual(frames[-2], frames[-1]), foreign),
        "sglang": Target(decode_live, sglang),
        "foreign replay": Target(decode_replay, replays + ends),
    }


def fuzz(seed: int, inputs: int) -> Tally:
    """One run over all decoders in turn. Any other exception than the one is the caller's to see.

    It says on its way out what the input was.
    """
    rng, tally = random.Random(f"fuzz-events/{seed}"), Tally()
    known = list(targets(rng).items())
    for number in range(inputs):
        name, target = known[number % len(known)]
        frames = _input(target.samples[rng.randrange(len(target.samples))], rng)
        try:
            is_taken = _is_taken(target.decode(frames))
        except RemoteEventError:
            is_taken = False
        except BaseException as error:
            error.add_note(f"seed {seed}, input {number}, {name}: {[f.hex() for f in frames]}")
            raise
        (tally.accepted if is_taken else tally.refused)[name] += 1
        if (number + 1) % max(1, inputs // 5) == 0:
            tally.resident.append(_resident_bytes())
    return tally


def _is_taken(decoded: object) -> bool:
    """Reads events that are made when they are asked for."""
    if isinstance(decoded, EventBatch):
        list(decoded.events)
    elif isinstance(decoded, tuple):
        list(decoded[3])
    return decoded is not None


def _input(frames: Frames, rng: random.Random) -> Frames:
    """The message with something wrong; rarely as it is."""
    frames = list(frames)
    place = rng.randrange(len(frames)) if rng.random() < 0.05 else -1
    chance = rng.random()
    if chance < 0.45:
        frames[place] = mutated(frames[place], rng) if frames[place] else rng.randbytes(8)
    elif chance < 0.85:
        frames[-1] = _twisted(frames[-1], rng)
    elif chance < 0.95:
        frames[place] = rng.randbytes(rng.randrange(200))
    elif chance < 0.97:
        frames[place] = frames[place][: rng.randrange(len(frames[place]) + 1)]
    elif chance < 0.98:
        frames.insert(rng.randrange(len(frames) + 1), rng.randbytes(rng.randrange(9)))
    return frames


def _twisted(payload: bytes, rng: random.Random) -> bytes:
    """One value of the structure replaced by an odd one."""
    try:
        value = msgpack.unpackb(payload, strict_map_key=False)
    except (ValueError, msgpack.UnpackException):
        return rng.randbytes(16)
    places = list(_places(value))
    if not places:
        return bytes(msgpack.packb(rng.choice(ODD)))
    parent, key = rng.choice(places)
    parent[key] = rng.choice(ODD)
    return bytes(msgpack.packb(value))


def _places(value: Any, depth: int = 0) -> Iterator[tuple[Any, Any]]:
    """Where values stand; of long lists the beginning."""
    if depth > 4 or not isinstance(value, list | dict):
        return
    keys = list(value) if isinstance(value, dict) else range(min(len(value), 8))
    for key in keys:
        yield value, key
        yield from _places(value[key], depth + 1)


def _heartbeat(rng: random.Random) -> Frames:
    sessions = tuple(
        SessionLoad(f"router-{n}", n, rng.randrange(9), rng.randrange(9), rng.randrange(9))
        for n in range(rng.randrange(4))
    )
    account = Account(rng.randrange(100), rng.getrandbits(64))
    last_seq = rng.choice((None, rng.randrange(1000)))
    return encode_heartbeat(Heartbeat(EPOCH, 0, last_seq, account, LoadReport(1.5, 9, 8, sessions)))


def _part(rng: random.Random) -> Frames:
    runs = tuple(event for event in some_events(rng) if isinstance(event, BlocksStored))
    seq = rng.choice((None, rng.getrandbits(62)))
    return encode_part(SnapshotPart(EPOCH, 0, seq, 1, 3, runs))


def _sglang(rng: random.Random) -> bytes:
    """Arrays, signed hashes, pairs of tokens, a map where vLLM has the LoRA name."""
    events: list[Any] = []
    for _ in range(rng.randrange(4)):
        hashes = [rng.getrandbits(64) - 2**63 for _ in range(rng.randrange(3))]
        tokens: list[Any] = [rng.getrandbits(16) for _ in range(4 * len(hashes))]
        if rng.random() < 0.2:
            tokens = [[token, token + 1] for token in tokens]
        tail = [None, rng.choice(("GPU", "CPU_PINNED", "EXTERNAL"))]
        if rng.random() < 0.3:
            tail.append({"cache_salt": "s", "session_id": None})  # type: ignore[arg-type]
        parent = rng.choice((None, rng.getrandbits(64) - 2**63))
        events.append(
            rng.choice(
                (
                    ["BlockStored", hashes, parent, tokens, 4, *tail],
                    ["BlockRemoved", hashes, "GPU"],
                    ["AllBlocksCleared"],
                )
            )
        )
    batch: Any = [1.5, events, 0]
    if rng.random() < 0.1:
        batch = {"ts": 1.5, "events": events, "data_parallel_rank": 0}
    return bytes(msgpack.packb(batch))


def _resident_bytes() -> int:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=INPUTS)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    print(f"seed {args.seed}", flush=True)
    started = time.monotonic()
    tally = fuzz(args.seed, args.inputs)
    seconds = time.monotonic() - started
    for name in tally.accepted | tally.refused:
        print(f"{name:16} {tally.accepted[name]:10,} taken {tally.refused[name]:10,} refused")
    print(
        f"{args.inputs:,} inputs in {seconds:.0f} s ({1e6 * seconds / args.inputs:.0f} us each),"
        f" {tally.growth / 1e6:+.1f} MB since the first fifth"
    )
    if tally.growth > MAX_GROWTH_BYTES:
        raise SystemExit(f"memory grew: {tally.resident}")


if __name__ == "__main__":
    main()
