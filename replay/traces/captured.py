"""Captured requests: what a router's request log says, as a trace. Lengths and prefixes, no text.

Pure. Keys are chained, so equal keys are equal prefixes; they are numbered anew, in order of
appearance, because outside its cluster a key means nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from radixroute.radix.ids import Keys
from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.draft import TraceDraft
from radixroute.replay.traces.trace import Trace


@dataclass(frozen=True, slots=True, eq=False)
class CapturedRequest:
    """One ended request."""

    arrival_ns: int  # on the router's clock
    prompt_tokens: int
    output_tokens: int
    block_size: int  # tokens of one key
    keys: Keys  # of the prompt's full blocks


def captured_trace(requests: Sequence[CapturedRequest], name: str) -> Trace:
    """A trace from the first arrival on; outputs of 0 tokens are made 1. Raises `BadTrace`."""
    sizes = {request.block_size for request in requests}
    if len(sizes) > 1:
        raise BadTrace(
            f"the log has blocks of {sorted(sizes)} tokens: capture each fleet by itself"
        )
    draft = TraceDraft(sizes.pop() if sizes else 1)
    numbers = BlockNumbers(draft.block_size)
    for request in requests:
        blocks = numbers.of(request.keys, request.prompt_tokens)
        draft.add(request.arrival_ns, (request.prompt_tokens, request.output_tokens), blocks)
    return draft.trace(name, from_zero=True)


class BlockNumbers:
    """Block ids of prompts whose keys are known, numbered in order of appearance."""

    def __init__(self, block_size: int) -> None:
        self._block_size = block_size
        self._number_by_key: dict[int, int] = {}
        self._n_partial = 0

    def of(self, keys: Keys, prompt_tokens: int) -> list[int]:
        """One for each block of the prompt. `keys`: of its full blocks."""
        known = self._number_by_key
        blocks = [known.setdefault(key, len(known)) for key in keys.tolist()]
        if prompt_tokens % self._block_size:
            # A partial block has no key: nobody shares it, so it counts down from the far end.
            blocks.append((1 << 62) - self._n_partial)
            self._n_partial += 1
        return blocks
