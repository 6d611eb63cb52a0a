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
    number_by_key: dict[int, int] = {}
    n_partial = 0
    for request in requests:
        blocks = [
            number_by_key.setdefault(key, len(number_by_key)) for key in request.keys.tolist()
        ]
        if request.prompt_tokens % draft.block_size:
            # A partial block has no key: nobody shares it, so it counts down from the far end.
            blocks.append((1 << 62) - n_partial)
            n_partial += 1
        draft.add(request.arrival_ns, (request.prompt_tokens, request.output_tokens), blocks)
    return draft.trace(name, from_zero=True)
