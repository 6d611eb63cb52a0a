"""Token ids for traces: prompts that share exactly what a trace says they share.

Pure: the token at each place of a block is drawn from (seed, block id, place) by SplitMix64, so
equal ids give equal tokens, in every run of the same seed. Blocks of different ids have nothing in
common but chance.
"""

import numpy as np

from radixroute.radix.ids import Tokens
from radixroute.replay.errors import InvalidShape
from radixroute.replay.traces.trace import Trace

_STEP = 0x9E3779B97F4A7C15
_MIX_1, _MIX_2 = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
_ALL = (1 << 64) - 1


class TokenSource:
    """Prompts of one trace over one vocabulary. Another seed gives prompts that share nothing."""

    def __init__(self, trace: Trace, vocab_size: int, seed: int) -> None:
        if vocab_size < 2:
            raise InvalidShape(f"a vocabulary of {vocab_size} tokens: prompts could not differ")
        self._trace = trace
        self._vocab = np.uint64(vocab_size)
        self._seed = _mixed(np.array([(seed * _STEP + 1) & _ALL], np.uint64))
        self._places = np.arange(1, trace.block_size + 1, dtype=np.uint64) * np.uint64(_STEP)

    def prompt(self, request: int) -> Tokens:
        """Shape (input_tokens,)."""
        trace = self._trace
        first, end = trace.first_block[request : request + 2].tolist()
        blocks = _mixed(trace.blocks[first:end].view(np.uint64) ^ self._seed)
        drawn = _mixed(blocks[:, None] + self._places)
        n_prompt = int(trace.input_tokens[request])
        return (drawn.ravel()[:n_prompt] % self._vocab).astype(np.uint32)


def _mixed(
    values: "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]",
) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint64]]":
    """SplitMix64's output function (Steele, Lea, Flood 2014); arithmetic modulo 2^64."""
    values = (values ^ (values >> np.uint64(30))) * _MIX_1
    values = (values ^ (values >> np.uint64(27))) * _MIX_2
    return values ^ (values >> np.uint64(31))
