"""Tables of a simulated fleet as they are at the start: nobody has arrived, all blocks are free.

Pure: a trace and a shape in, arrays out, with the columns that `layout` names. `SimulatedFleet`
owns them from then on.
"""

import numpy as np
from numpy.typing import NDArray

from radixroute.radix.ids import Numbers
from radixroute.radix.tree.eviction import eviction_named, over_age
from radixroute.replay.arrays import Cells, Floats
from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet import layout as at
from radixroute.replay.fleet.shape import FleetShape
from radixroute.replay.fleet.timing import Timing
from radixroute.replay.traces.trace import Prefixes, Trace

# Columns of a request that begin as "not yet".
UNSET = (
    at.WORKER,
    at.NEXT,
    at.LEAF,
    at.PARTIAL,
    at.CACHED,
    at.ARRIVED_NS,
    at.ADMITTED_NS,
    at.FIRST_NS,
    at.FINISH_NS,
)


def new_requests(
    trace: Trace, prefixes: Prefixes, last_of: Numbers | None = None
) -> NDArray[np.int64]:
    """`last_of`: of `SimulatedFleet`."""
    requests = np.zeros((len(trace), at.REQUEST_LEN), np.int64)
    requests[:, at.PROMPT] = trace.input_tokens
    requests[:, at.OUTPUT] = trace.output_tokens
    requests[trace.after[trace.after >= 0], at.IS_FOLLOWED] = 1
    requests[trace.joins[:, 1], at.IS_FOLLOWED] = 1
    requests[:, at.FIRST_NODE] = prefixes.first[:-1]
    requests[:, at.N_NODES] = np.diff(prefixes.first)
    if last_of is not None:
        requests[:, at.LAST_OF] = last_of
    requests[:, UNSET] = -1
    most = requests[:, at.PROMPT] + requests[:, at.OUTPUT] - 1
    n_outputs = most // prefixes.block_size - requests[:, at.N_NODES]
    requests[:, at.FIRST_OUTPUT] = prefixes.n_nodes + np.cumsum(n_outputs) - n_outputs
    if prefixes.n_nodes + n_outputs.sum() >= np.iinfo(np.int32).max:
        raise InvalidShape("prompts and outputs are more than two billion blocks; cut the trace")
    return requests


def new_workers(shape: FleetShape) -> Numbers:
    workers = np.zeros((shape.workers, at.WORKER_LEN), np.int64)
    none = (at.STEP_END, at.FREE_RUN, at.WAIT_HEAD, at.WAIT_TAIL, at.DUPLICATE_HEAD)
    workers[:, none] = -1
    workers[:, at.N_FREE] = shape.caches
    columns = (at.USE_STEP, at.USE_TOP, at.USE_INTERVALS, at.USE_FAR)
    for worker, kv_blocks in enumerate(shape.caches):
        workers[worker, at.OVER_AGE] = over_age(kv_blocks)
        policy = eviction_named(shape.eviction_policy, kv_blocks, shape.block_size)
        if policy is not None:
            workers[worker, columns] = policy.step, policy.top, policy.intervals, policy.far
    return workers


def new_slots(shape: FleetShape) -> Cells:
    """Rows beyond a smaller worker's cache are never used."""
    most = max(shape.caches)
    slots = np.zeros((shape.workers, most, at.SLOT_LEN), np.int32)
    slots[:, :, at.AFTER] = np.arange(1, most + 1)
    slots[np.arange(shape.workers), np.array(shape.caches) - 1, at.AFTER] = -1
    return slots


def timing_rows(shape: FleetShape, timing: Timing) -> Floats:
    rows = np.tile(timing.coefficients(shape), (shape.workers, 1))
    rows[:, at.SLOWNESS] *= shape.slownesses
    if not timing.kv_tokens:
        rows[:, at.D_TOTAL] = np.array(shape.caches) * shape.block_size
    return rows


def refuse_impossible(requests: Numbers, shape: FleetShape) -> None:
    """Any worker may get any request, so each must fit the smallest one."""
    least = min(shape.caches)
    most = requests[:, at.PROMPT] + requests[:, at.OUTPUT] - 1
    wanted = -(-most // shape.block_size)
    too_long = int((wanted > least).sum())
    if too_long:
        longest = int(wanted.max())
        raise InvalidShape(
            f"{too_long} requests do not fit a worker of {least} blocks of"
            f" {shape.block_size} tokens; the longest needs {longest}: ask for larger workers"
        )


def power_of_two(least: int) -> int:
    """The smallest that is no less."""
    return 1 << (least - 1).bit_length()
