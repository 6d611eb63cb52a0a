"""Hashing: numbers for workers and for how prompts begin, to place the ones on the others by.

Pure and the same on every machine: a worker's number hangs on its name alone, so that one that
comes or goes changes nobody else's.
"""

import hashlib
from functools import lru_cache
from typing import Final

import numpy as np

from radixroute.radix.ids import Keys, WorkerId
from radixroute.radix.mixing import GAMMA, finalise

# Prompts that begin alike for so long are one. By the first block alone nearly all of the
# conversation trace was one (its system prompt): 8 workers reused 7 %, less than in turn, but 27 %
# by the first 576 to 2,048 tokens.
BEGINNING_TOKENS: Final = 1024


def beginning(keys: Keys, block_size: int, tokens: int = BEGINNING_TOKENS) -> int | None:
    """Key of a prompt's first so many tokens, all of it if it is shorter; None: it has no block."""
    begins = keys[: max(1, tokens // block_size)]
    return int(begins[-1]) if len(begins) else None


def drawn(number: int, worker_ids: tuple[WorkerId, ...]) -> Keys:
    """What a number draws for each worker: 64 even bits, shape (workers,). The lowest has it."""
    return finalise(seeds(worker_ids) ^ (np.full(1, number, np.uint64) * np.uint64(GAMMA)))


@lru_cache(maxsize=16)
def seeds(worker_ids: tuple[WorkerId, ...]) -> Keys:
    """A hash of each worker's name, shape (workers,)."""
    names = [hashlib.blake2b(name.encode(), digest_size=8).digest() for name in worker_ids]
    hashes = np.frombuffer(b"".join(names), "<u8").astype(np.uint64)
    hashes.setflags(write=False)
    return hashes
