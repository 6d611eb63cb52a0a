"""Block keys: tokens into keys, chained, so that one key names its whole prefix.

`key[i] = SipHash-1-3(seed; key[i-1], tokens of block i)`, with 0 before the first block. Only full
blocks have keys, and no key is 0. A collision may cost a worse routing choice, never a wrong
answer: workers compare tokens before they reuse. Pure functions; numba is imported at first use.
"""

import struct
from collections.abc import Callable, Sequence
from functools import cache, lru_cache

import numpy as np

from radixroute.radix.errors import BrokenKernel, LocalMisuse
from radixroute.radix.ids import BlockKey, Keys, Tokens
from radixroute.radix.mixing import GAMMA, finalise_int

# What stands before the first block of a prompt; no key has this value.
_ROOT = 0

_GOLDEN_SEED = np.uint64(0x0123456789ABCDEF)
_GOLDEN_TOKENS = np.arange(1, 36, dtype=np.uint32) * np.uint32(2654435)
_GOLDEN_KEYS = (0xF188270412F677F8, 0xD3DE921195471600)


def block_keys(tokens: Tokens, block_size: int, seed: np.uint64) -> Keys:
    """Keys of the full blocks of a prompt, shape (len(tokens) // block_size,). O(tokens)."""
    return _chain(tokens, block_size, seed, _ROOT)


def extend_keys(
    previous: BlockKey | None, tokens: Tokens, block_size: int, seed: np.uint64
) -> Keys:
    """Keys of further full blocks after the block `previous` (None: at the start)."""
    return _chain(tokens, block_size, seed, _ROOT if previous is None else previous)


def as_tokens(ids: Sequence[int]) -> Tokens:
    """A list of token ids as an array, shape (ids,): three times faster than `np.array`.

    Raises `LocalMisuse` for what is no unsigned 32-bit number.
    """
    try:
        return np.frombuffer(struct.pack(f"<{len(ids)}I", *ids), np.dtype("<u4"))
    except struct.error as error:
        raise LocalMisuse(f"token ids are unsigned 32-bit numbers: {error}") from None


def warm() -> None:
    """Compile or load the kernel and prove that it hashes as written. Raises `BrokenKernel`."""
    got = tuple(block_keys(_GOLDEN_TOKENS, 16, _GOLDEN_SEED).tolist())
    if got != _GOLDEN_KEYS:
        raise BrokenKernel(f"block keys of the golden tokens are {got}, not {_GOLDEN_KEYS}")


def _chain(tokens: Tokens, block_size: int, seed: np.uint64, previous: int) -> Keys:
    if tokens.dtype != np.uint32 or tokens.ndim != 1:
        raise LocalMisuse(f"tokens are uint32 of one dimension, not {tokens.dtype}{tokens.shape}")
    if block_size < 1:
        raise LocalMisuse(f"block_size is {block_size}")
    k0, k1 = siphash_key(seed)
    keys: Keys = _kernel()(np.ascontiguousarray(tokens), block_size, np.uint64(previous), k0, k1)
    return keys


@cache
def _kernel() -> Callable[..., Keys]:
    """What it is given is looked at above: to have numba find that out takes up to 0.5 us more."""
    from radixroute.radix.jit import entry_point  # here: numba takes 0.5 s to import
    from radixroute.radix.keys.kernels import chain

    return entry_point(chain)


@lru_cache(maxsize=1024)
def siphash_key(seed: np.uint64) -> tuple[np.uint64, np.uint64]:
    """SipHash has a key of two words: the seed, and SplitMix64 of it."""
    return np.uint64(seed), np.uint64(finalise_int(int(seed) + GAMMA))
