"""What was measured of an engine: its own steps, or the times that its clients saw. Values only.

Clients see prompts alone (their chunks together, and the way there and back), and the time between
two tokens. The engine knows each step and what is in it, so its steps say more: with some of them
the rest is not asked.
"""

from dataclasses import dataclass

from radixroute.replay.fleet.timing import pairs_of


@dataclass(frozen=True, slots=True)
class StepRow:
    """One step of an engine: from its beginning until the next one can begin."""

    prefill_tokens: int  # prompt tokens that it computed
    prompts: int  # that these were of
    pairs: int  # tokens read by them, as `timing` has it
    decoding: int  # requests that decoded in it
    context_tokens: int  # of these together
    ms: float


@dataclass(frozen=True, slots=True)
class WayRow:
    """The way of one request through an idle fleet, without the steps that computed it."""

    to_engine_ms: float  # from its router's decision to the beginning of its first step
    to_client_ms: float  # all the rest: to the router, and from the step that gave its first token


@dataclass(frozen=True, slots=True)
class PrefillRow:
    """One prompt, alone on its worker."""

    tokens: int  # computed, not from cache
    ms: float  # sent to first token, as its client saw it
    cached: int = 0  # tokens before them
    client_ms: float = 0.0  # of `ms`, what its router did not see


@dataclass(frozen=True, slots=True)
class DecodeRow:
    """Some steps of one worker that only decoded."""

    decoding: int  # requests in each step
    context_tokens: float  # of all of them together, mean over the steps
    ms: float  # mean time between two tokens of a request


@dataclass(frozen=True, slots=True)
class BesideRow:
    """One prompt on a worker on which others decode. Nothing is fitted to it: it is the check."""

    tokens: int
    decoding: int
    context_tokens: float  # of those that decode
    ms: float  # sent to first token


@dataclass(frozen=True, slots=True)
class Rows:
    """What was measured. With `steps`, timings are fitted to these alone."""

    kv_tokens: int  # that a worker's pool holds
    prefill: tuple[PrefillRow, ...] = ()
    decode: tuple[DecodeRow, ...] = ()
    beside: tuple[BesideRow, ...] = ()
    chunk_tokens: int = 0  # that a step computes at most; 0: no prompt took several steps
    steps: tuple[StepRow, ...] = ()
    way: tuple[WayRow, ...] = ()


def chunks_of(tokens: int, cached: int, chunk_tokens: int) -> list[tuple[int, float]]:
    """(tokens, pairs) of the steps that compute one prompt, if nothing is beside it."""
    size = chunk_tokens or max(1, tokens)
    return [
        (n := min(size, tokens - done), pairs_of(n, cached + done))
        for done in range(0, tokens, size)
    ]
