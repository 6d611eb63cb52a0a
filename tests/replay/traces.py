"""Traces for tests: by hand, at random, and what must hold of each."""

import numpy as np

from radixroute.replay.traces.draft import TraceDraft, earliest_ns


def trace_of(rows, *, block_size=4, name="by hand"):
    """`rows`: (arrival_ns, input, output, blocks or None[, after])."""
    draft = TraceDraft(block_size)
    for arrival, n_input, n_output, blocks, *after in rows:
        draft.add(arrival, (n_input, n_output), blocks, after=after[0] if after else None)
    return draft.trace(name)


def random_trace(seed, n=40, *, last_ns=1 << 60, block_size=4):
    """Follow-ups of one or several others among timed requests, many at one time; programs said by
    every other seed; ids up to 2^64 - 1."""
    rng = np.random.default_rng(seed)
    draft = TraceDraft(block_size)
    stamps = rng.integers(0, last_ns, 8)
    for number in range(n):
        after = None
        if number and rng.random() < 0.4:
            after = rng.choice(number, min(number, int(rng.integers(1, 4))), replace=False).tolist()
        time = int(rng.integers(0, last_ns // n) if after is not None else rng.choice(stamps))
        n_input = int(rng.integers(1, 40))
        ids = rng.integers(0, 1 << 64, -(-n_input // block_size), np.uint64).tolist()
        program = int(rng.integers(5)) if seed % 2 else None
        draft.add(time, (n_input, int(rng.integers(1, 9))), ids, after=after, program=program)
    return draft.trace(f'random "{seed}" é')


def assert_sound(trace):
    """What `Trace` promises, and its order."""
    n = len(trace)
    assert all(len(c) == n for c in (trace.input_tokens, trace.output_tokens, trace.after))
    assert trace.first_block[0] == 0
    assert trace.first_block[-1] == len(trace.blocks)
    assert (np.diff(trace.first_block) == -(-trace.input_tokens // trace.block_size)).all()
    assert (trace.input_tokens >= 1).all()
    assert (trace.output_tokens >= 1).all()
    assert (trace.arrival_ns >= 0).all()
    assert (trace.after < np.arange(n)).all()
    waiting, others = trace.joins.T
    assert (trace.after[waiting] < others).all()
    assert (trace.after[waiting] >= 0).all()
    assert (others < waiting).all()
    assert trace.joins.tolist() == sorted(trace.joins.tolist())
    assert trace.program is None or len(trace.program) == n
    assert (np.diff(earliest_ns(trace)) >= 0).all()


def blocks_of(trace, request):
    return trace.blocks[trace.first_block[request] : trace.first_block[request + 1]].tolist()


def awaited(trace, request):
    """Requests that must have ended before it comes."""
    after = int(trace.after[request])
    return [after, *trace.joined.get(request, [])] if after >= 0 else []


def requests_of(trace):
    """Each request without its number: comparable between orders. Whom it waits for by ids."""
    rows = []
    for i in range(len(trace)):
        before = awaited(trace, i)
        rows.append(
            (
                int(trace.arrival_ns[i]),
                int(trace.input_tokens[i]),
                int(trace.output_tokens[i]),
                tuple(blocks_of(trace, i)),
                tuple(sorted(tuple(blocks_of(trace, one)) for one in before)),
                None if trace.program is None else int(trace.program[i]),
            )
        )
    return rows


def infinite_reuse(trace):
    """Prompt tokens in leading full blocks seen before, over all; the last is recomputed."""
    seen, cached = set(), 0
    for i in range(len(trace)):
        n_input = int(trace.input_tokens[i])
        ids = blocks_of(trace, i)[: n_input // trace.block_size]
        n = next((k for k, one in enumerate(ids) if one not in seen), len(ids))
        cached += min(n, (n_input - 1) // trace.block_size) * trace.block_size
        seen.update(ids)
    return cached / trace.prompt_tokens
