"""Prompts of the demo's assistants, without end: those of one assistant share its system prompt."""

import random
from collections.abc import Iterator
from itertools import cycle

import numpy as np

from radixroute.demo.workload.personas import load_personas
from radixroute.radix.ids import Tokens
from radixroute.request.tokenizer import Tokenizer

SHORTEST, LONGEST = 20, 600  # tokens


def prompts(tokenizer: Tokenizer, seed: int) -> Iterator[Tokens]:
    """Lengths even on a log scale; up to two thirds of each is its system prompt."""
    rng = random.Random(seed)
    for persona in cycle(load_personas()):
        length = int(SHORTEST * (LONGEST / SHORTEST) ** rng.random())
        own = [*persona.asks, *persona.pastes]
        tokens = tokenizer.encode(persona.system)[: 2 * length // 3]
        while len(tokens) < length:
            rng.shuffle(own)
            tokens = np.concatenate([tokens, tokenizer.encode("\n\n".join(own))])
        yield tokens[:length].astype(np.uint32)
