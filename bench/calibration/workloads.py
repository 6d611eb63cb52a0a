"""Traces for a small engine on one core: prompts of tens to hundreds of tokens, short answers.

Some begin alike, a few take several steps. Arrivals are spread at random, one a second on average:
what makes a load of them is the speed at which they are replayed.
"""

from dataclasses import replace

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.replay.synth.draws import Draws
from radixroute.replay.synth.prompts import Pieces
from radixroute.replay.traces.reshape import scaled
from radixroute.replay.traces.trace import Trace

TRUNKS = 3  # texts that prompts begin with
TRUNK_TOKENS = (64, 256)
OWN_TOKENS = (16, 256)  # of a prompt behind its trunk
LONG_TOKENS = (512, 900)  # of a few: more than one step computes
LONG_SHARE = 0.06
OUTPUT_TOKENS = (4, 24)
MANY_OUTPUT_TOKENS = (8, 80)  # many decode together though few prompts come


def drawn(seed: int, requests: int, output_tokens: tuple[int, int] = OUTPUT_TOKENS) -> Trace:
    """The last one comes after as many seconds as there are requests."""
    draws, pieces = Draws.of("calibration", seed, sigma=0.0), Pieces()
    trunks = [pieces.text(draws.spread_tokens(*TRUNK_TOKENS)) for _ in range(TRUNKS)]
    for arrival_ns in _spread(draws, requests).tolist():
        own = LONG_TOKENS if draws.happens(LONG_SHARE) else OWN_TOKENS
        prompt = (trunks[draws.count(0, TRUNKS - 1)], pieces.text(draws.spread_tokens(*own)))
        pieces.add(arrival_ns, prompt, draws.count(*output_tokens))
    return pieces.trace(f"calibration-{seed}")


def at_speed(trace: Trace, per_s: float) -> Trace:
    """As many requests a second on average."""
    return scaled(trace, per_s)


def all_at_once(trace: Trace) -> Trace:
    return replace(trace, arrival_ns=np.zeros_like(trace.arrival_ns))


def _spread(draws: Draws, requests: int) -> Numbers:
    arrivals_ns = draws.arrivals_ns(requests, 1.0)
    spread: Numbers = np.rint(arrivals_ns * (requests * 1e9 / arrivals_ns[-1])).astype(np.int64)
    return spread
