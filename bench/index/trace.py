"""The workload of the index benchmark: a real trace, as tokens, block keys and placements.

The Mooncake conversation trace names each 512-token piece of a prompt by an id that stands for the
whole prefix up to it. Its tokens are drawn with the id as seed, so both sides see the same ones.
"""

import gzip
import json
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import numpy as np

from radixroute.radix.ids import BlockKey, Keys, Tokens
from radixroute.radix.keys.block_keys import extend_keys

TRACE = Path(__file__).parents[1] / "data" / "conversation_trace.jsonl.gz"
TOKENS_AN_ID = 512
BLOCK_SIZE = 16
BLOCKS_AN_ID = TOKENS_AN_ID // BLOCK_SIZE
VOCABULARY = 128_000
SEED = np.uint64(1)

Ids = tuple[int, ...]  # one request


def load_trace(n: int | None = None) -> list[Ids]:
    """The first `n` requests, in order."""
    with gzip.open(TRACE, "rt") as lines:
        return [tuple(json.loads(line)["hash_ids"]) for line in islice(lines, n)]


def tokens_of(one: int) -> Tokens:
    """The 512 tokens behind an id, shape (512,), uint32."""
    rng = np.random.Generator(np.random.PCG64(one))
    return rng.integers(0, VOCABULARY, TOKENS_AN_ID).astype(np.uint32)


def prompt_of(ids: Ids) -> Tokens:
    return np.concatenate([tokens_of(one) for one in ids])


class KeyBook:
    """Block keys of each id, chained along the prompts they stand in. Made once an id."""

    def __init__(self) -> None:
        self._keys: dict[int, Keys] = {}

    def learn(self, request: Ids) -> None:
        previous: BlockKey | None = None
        for one in request:
            if one not in self._keys:
                self._keys[one] = extend_keys(previous, tokens_of(one), BLOCK_SIZE, SEED)
            previous = BlockKey(int(self._keys[one][-1]))

    def keys(self, ids: Ids) -> Keys:
        return np.concatenate([self._keys[one] for one in ids])

    def last(self, one: int) -> BlockKey:
        return BlockKey(int(self._keys[one][-1]))


@dataclass(frozen=True, slots=True)
class Placed:
    """What one request adds to a worker's cache: `new` ids after the `above` it holds already."""

    worker: int
    above: int | None
    new: Ids


def place_round_robin(requests: list[Ids], workers: int) -> list[Placed]:
    """Requests in turn; what a worker holds already is not stored again."""
    held: list[set[int]] = [set() for _ in range(workers)]
    placed = []
    for number, ids in enumerate(requests):
        mine = held[number % workers]
        known = next((i for i, one in enumerate(ids) if one not in mine), len(ids))
        if known < len(ids):
            above = ids[known - 1] if known else None
            placed.append(Placed(number % workers, above, ids[known:]))
            mine.update(ids)
    return placed
