"""The radix policy's score: a worker's expected time to first token and the harm done there, in ms.

Pure. Each term is named and has a unit, so that `explain` can print why. Not a mix of unitless
weights: everything is the worker's own milliseconds, learned from its reported steps.
"""

import math

from radixroute.router.candidates import Candidate, Score, Term, View

# Harm to others counts for less than the request's own wait. Delaying a request that already
# streams costs its reader a pause, not the start; a quarter keeps a shared trunk from starving
# workers (the trunk trap) and still lets a real match win. A judgement, to be tuned by replay.
DECODE_HARM_WEIGHT = 0.25
# Time spent computing is time that whoever comes next must wait. Total weights of 1 to 1.2 on the
# own prefill measured best, so this and eviction together stay near a quarter. Without it a burst
# of one cold prefix scatters: on an idle worker, computing it again is no slower than waiting.
COMPUTE_HARM_WEIGHT = 0.15
# Chance that an evicted block would have been asked for again before it aged out anyway.
EVICTED_REUSE_CHANCE = 0.15


def radix_score(view: View, candidate: Candidate) -> Score:
    """O(1)."""
    speed, load = candidate.speed, candidate.load
    cached = view.cached_tokens(credit_blocks(view, candidate))
    uncached = view.prompt_tokens - cached
    prefill_ms = uncached * speed.ms_per_prefill_token
    queue_ms = load.queued_tokens * speed.ms_per_prefill_token
    passes = _passes(candidate, load.queued_tokens + uncached)
    shared_ms = passes * speed.step_ms(load.decoding)
    return Score(
        (
            Term("queue", queue_ms, "ms"),
            Term("prefill", prefill_ms, "ms"),
            Term("steps", shared_ms, "ms"),
            Term("compute", COMPUTE_HARM_WEIGHT * prefill_ms, "ms"),
            Term("slow_down", _slow_down_ms(view, candidate, prefill_ms), "ms"),
            Term("evict", _evict_ms(view, candidate, uncached), "ms"),
        )
    )


def credit_blocks(view: View, candidate: Candidate) -> int:
    """Cache credit, unless it would lift a worker above its bounded share of the load."""
    return candidate.overlap_blocks if candidate.load.in_flight + 1 <= view.cap else 0


def _passes(candidate: Candidate, tokens: int) -> int:
    """Engine steps until the last of these prompt tokens is computed."""
    budget = candidate.max_batched_tokens
    return max(1, math.ceil(tokens / budget)) if budget else 1


def _slow_down_ms(view: View, candidate: Candidate, prefill_ms: float) -> float:
    """What those who already run there lose: our prefill once, then our share of each step."""
    others = candidate.load.in_flight
    lasting_ms = candidate.speed.ms_per_decode * view.output_tokens
    return DECODE_HARM_WEIGHT * others * (prefill_ms + lasting_ms)


def _evict_ms(view: View, candidate: Candidate, uncached: int) -> float:
    """Value of the cached blocks that must go to make room."""
    if not candidate.kv_blocks_total:
        return 0.0
    wanted = math.ceil((uncached + view.output_tokens) / view.block_size)
    free = max(0, candidate.kv_blocks_total - candidate.kv_blocks_used)
    evicted_tokens = max(0, wanted - free) * view.block_size
    return EVICTED_REUSE_CHANCE * evicted_tokens * candidate.speed.ms_per_prefill_token
