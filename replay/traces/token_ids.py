"""Token ids for traces: prompts that share exactly what a trace says they share.

Pure: the token at each place of a block is drawn from (seed, block id, place) by SplitMix64, so
equal ids give equal tokens, in every run of the same seed. Blocks of different ids have nothing in
common but chance.
"""

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.radix.mixing import GAMMA, MASK, finalise
from radixroute.replay.errors import InvalidShape
from radixroute.replay.traces.trace import Trace


class TokenSource:
    """Prompts of one trace over one vocabulary. Another seed gives prompts that share nothing."""

    def __init__(self, trace: Trace, vocab_size: int, seed: int) -> None:
        if vocab_size < 2:
            raise InvalidShape(f"a vocabulary of {vocab_size} tokens: prompts could not differ")
        self._trace = trace
        self._vocab = np.uint64(vocab_size)
        self._seed = finalise(np.array([(seed * GAMMA + 1) & MASK], np.uint64))
        self._places = np.arange(1, trace.block_size + 1, dtype=np.uint64) * np.uint64(GAMMA)

    def prompt(self, request: int) -> Tokens:
        """Shape (input_tokens,)."""
        trace = self._trace
        first, end = trace.first_block[request : request + 2].tolist()
        blocks = finalise(trace.blocks[first:end].view(np.uint64) ^ self._seed)
        drawn = finalise(blocks[:, None] + self._places)
        n_prompt = int(trace.input_tokens[request])
        return (drawn.ravel()[:n_prompt] % self._vocab).astype(np.uint32)
