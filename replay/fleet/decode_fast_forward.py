"""Decode fast forward: steps that only decode and follow each other alike, planned as one.

While nobody arrives, ends, or fills or begins a block, a worker's next steps differ in their time
alone. They are planned as one, with the same rounding, and told apart only when somebody looks
before they are over. Owns the time that any step takes, too. Helpers of `kernels`, compiled into
them.
"""

import numpy as np

from radixroute.radix.ids import Numbers
from radixroute.radix.jit import helper, rare_helper
from radixroute.replay.arrays import Cells, Floats
from radixroute.replay.fleet import layout as at


@helper
def step_ns(
    prefill: int, prompts: int, pairs: int, decodes: int, context: int, timing: Floats
) -> int:
    ms = timing[at.EVERY]
    if prefill > 0:
        t = np.float64(prefill)
        ms += (timing[at.A2] * t + timing[at.A1]) * t + timing[at.A0]
        ms += timing[at.A_PAIR] * pairs + timing[at.A_EACH] * prompts
    if decodes > 0:
        ms += _decode_ms(decodes, context, timing)
    return _rounded_ns(ms, timing)


@helper
def _decode_ms(decodes: int, context: int, timing: Floats) -> float:
    p = context / timing[at.D_TOTAL]
    ms = (timing[at.D2] * p + timing[at.D1]) * p + timing[at.D0]
    ms += timing[at.D_EACH] * decodes
    return max(timing[at.D_MIN], ms)  # type: ignore[no-any-return]


@helper
def _rounded_ns(ms: float, timing: Floats) -> int:
    return max(1, np.int64(np.rint(ms * timing[at.SLOWNESS] * 1e6)))  # type: ignore[return-value]


@helper
def _decode_ns(decodes: int, context: int, timing: Floats) -> int:
    """`step_ns` of a step that only decodes. Without its branches: LLVM makes of a loop over them
    a division of 128 bits, which numba cannot link."""
    return _rounded_ns(timing[at.EVERY] + _decode_ms(decodes, context, timing), timing)


@rare_helper
def plan_fast_forward(
    worker: Numbers, requests: Numbers, running: Cells, limits: Numbers, timing: Floats
) -> None:
    """The step just begun only decodes: as many more as follow alike. The last may end requests."""
    n_steps = np.int64(1 << 62)
    for place in range(worker[at.N_RUNNING]):
        request = requests[running[place]]
        alike = np.int64(1)
        if request[at.PARTIAL] >= 0:
            # The step that fills the block decides again: it is published then.
            alike = (request[at.N_CHAINED] + 1) * limits[at.BLOCK] - 1 - request[at.COMPUTED]
        n_steps = min(n_steps, alike, request[at.OUTPUT] - request[at.GENERATED])
    n, context, end_ns = worker[at.STEP_DECODES], worker[at.STEP_CONTEXT], worker[at.STEP_END]
    for _ in range(n_steps - 1):
        context += n
        end_ns += _decode_ns(n, context, timing)
    worker[at.FAST_FORWARD_STEPS] = n_steps
    worker[at.FAST_FORWARD_END] = end_ns


@rare_helper
def finish_fast_forward(worker: Numbers, requests: Numbers, running: Cells, timing: Floats) -> None:
    """All steps of the fast forward but the last are over."""
    n_over, n = worker[at.FAST_FORWARD_STEPS] - 1, worker[at.STEP_DECODES]
    last_ns = _decode_ns(n, worker[at.STEP_CONTEXT] + n_over * n, timing)
    end_ns = worker[at.FAST_FORWARD_END]
    _skip(n_over, end_ns - last_ns, end_ns, worker, requests, running)


@rare_helper
def fast_forward_to(
    now_ns: int, worker: Numbers, requests: Numbers, running: Cells, timing: Floats
) -> None:
    """The fast forward's steps up to now are over. What begins now has not begun."""
    n, context = worker[at.STEP_DECODES], worker[at.STEP_CONTEXT]
    start_ns, end_ns = worker[at.STEP_START], worker[at.STEP_END]
    before_ns, n_over = start_ns, 0
    while end_ns <= now_ns:
        n_over += 1
        context += n
        before_ns, start_ns = start_ns, end_ns
        end_ns += _decode_ns(n, context, timing)
    _skip(n_over, start_ns, end_ns, worker, requests, running)
    if start_ns == now_ns:
        worker[at.STEP_START] = before_ns
        worker[at.STEP_END] = -1
        for place in range(worker[at.N_RUNNING]):
            requests[running[place], at.STEP_TOKENS] = 0


@helper
def _skip(
    n_steps: int, start_ns: int, end_ns: int, worker: Numbers, requests: Numbers, running: Cells
) -> None:
    """So many steps of a fast forward are over; the next one runs from `start_ns` to `end_ns`."""
    for place in range(worker[at.N_RUNNING]):
        request = requests[running[place]]
        request[at.COMPUTED] += n_steps
        request[at.GENERATED] += n_steps
    n, ns = worker[at.STEP_DECODES], start_ns - worker[at.STEP_START]
    worker[at.N_DECODE_STEPS] += n_steps
    worker[at.DECODE_NS] += ns
    worker[at.DECODED] += n_steps * n
    worker[at.BUSY_NS] += ns
    worker[at.STEP_CONTEXT] += n_steps * n
    worker[at.STEP_START] = start_ns
    worker[at.STEP_END] = end_ns
    worker[at.FAST_FORWARD_STEPS] -= n_steps
