"""Messages between a router and the process that runs its shadows: MessagePack, one way each.

Times are nanoseconds since the shadows began; workers are numbers in the order of `Begin.workers`.
Prompts never travel: lengths and block keys do.
"""

import struct
from typing import Final, NamedTuple, TypeAlias

import msgspec

LENGTH: Final = struct.Struct("<I")


class ShadowWorker(NamedTuple):
    """What a simulated worker is like."""

    kv_blocks: int
    max_num_seqs: int
    max_batched_tokens: int


class ShadowTiming(NamedTuple):
    """What a worker's steps take, as its router has learned by now; milliseconds."""

    worker: int
    prefill_base: float
    a_prefill_token: float
    step_base: float
    a_decode: float


class ShadowChange(NamedTuple):
    """What became of a worker; `kind` as `replay.changes` has it."""

    at_ns: int
    worker: int
    kind: str


class Live(NamedTuple):
    """What the router really did with a request."""

    worker: int  # that had it first
    ttft_ns: int  # arrival to first token, at the router; -1: it had none
    cached_tokens: int  # as its engine told; -1: it did not
    predicted_tokens: int


class ShadowRow(NamedTuple):
    """One request as it was asked, once all of it is known."""

    tag: int
    arrival_ns: int
    prompt_tokens: int
    output_tokens: int
    n_prompt_blocks: int
    keys: bytes  # of its full blocks, output included; packed little-endian u64
    session: int | None
    last_of: int
    priority: int


class Begin(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """All shadows begin, with empty caches; what ran before is over."""

    beginning: int  # which
    policies: tuple[str, ...]
    workers: tuple[ShadowWorker, ...]
    block_size: int
    seed: int


class Batch(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """What is known of the time before `until_ns`, beside what was sent before."""

    until_ns: int
    rows: tuple[ShadowRow, ...] = ()  # in order of arrival
    changes: tuple[ShadowChange, ...] = ()
    timings: tuple[ShadowTiming, ...] = ()


class Result(NamedTuple):
    """What one shadow made of one request."""

    policy: int
    tag: int
    worker: int
    ttft_ns: int
    cached_tokens: int


class ShadowState(NamedTuple):
    """How far one shadow is."""

    policy: int
    now_ns: int
    n_open: int
    n_unfit: int  # requests that none of its workers could hold
    n_failed: int  # requests that its router gave up
    busy_ns: int  # of a processor, for it alone
    error: str  # why it has ended; empty: it goes on


class Results(msgspec.Struct, frozen=True, tag=True, array_like=True):
    """The answer to a batch."""

    beginning: int
    until_ns: int
    results: tuple[Result, ...]
    states: tuple[ShadowState, ...]


Order: TypeAlias = Begin | Batch

encode = msgspec.msgpack.Encoder().encode
decode_order = msgspec.msgpack.Decoder(Begin | Batch).decode
decode_results = msgspec.msgpack.Decoder(Results).decode


def framed(message: Order | Results) -> bytes:
    """With its length before it."""
    data = encode(message)
    return LENGTH.pack(len(data)) + data
