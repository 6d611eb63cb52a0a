"""A running cluster as a replay needs it: its workers and limits, and traces made to fit it.

Asks the router only. Owns nothing.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from radixroute.client import AsyncRouterClient
from radixroute.errors import BadInput, RequestFailed
from radixroute.protos import radixroute_pb2 as pb
from radixroute.radix.ids import Numbers
from radixroute.replay.results import IDLE_KINDS
from radixroute.replay.traces.reshape import capped, kept, resized
from radixroute.replay.traces.trace import Trace

# Where an older worker does not say: as many as the engine's own default.
_MAX_NUM_SEQS = 256


@dataclass(frozen=True, slots=True)
class ClusterFacts:
    """What the live workers have in common; where they differ, the least of it."""

    policy: str  # the router's own
    workers: tuple[str, ...]  # ids of the live ones, in order: their numbers in a result
    block_size: int  # tokens
    vocab_size: int
    max_model_len: int  # tokens, prompt and output together
    kv_blocks: int  # of a worker
    max_num_batched_tokens: int
    max_num_seqs: int

    @property
    def max_tokens(self) -> int:
        """That one request may have, prompt and output."""
        return min(self.max_model_len, self.kv_blocks * self.block_size)


async def ask_cluster(client: AsyncRouterClient) -> ClusterFacts:
    """Raises `RequestFailed` while no worker is live, and for a router that cannot say enough."""
    info, listed = await client.router_info(), await client.list_workers()
    live = [one for one in listed.workers if one.state == "live"]
    if not live or not info.block_size:
        raise RequestFailed("no worker is live: wait until `radixroute workers` lists one")
    if not info.vocab_size or not info.max_model_len:
        raise RequestFailed("this router is too old to be replayed against: it tells no vocabulary")
    return ClusterFacts(
        policy=info.policy,
        workers=tuple(sorted(one.worker_id for one in live)),
        block_size=info.block_size,
        vocab_size=info.vocab_size,
        max_model_len=info.max_model_len,
        kv_blocks=min(one.kv_blocks_total for one in live),
        max_num_batched_tokens=min(one.max_num_batched_tokens for one in live) or 8192,
        max_num_seqs=min(one.max_num_seqs for one in live) or _MAX_NUM_SEQS,
    )


@dataclass(frozen=True, slots=True)
class Fitting:
    """How a trace is made to fit a small model."""

    scale_lengths: float | None = None
    max_output: int | None = None  # tokens
    skip_long: bool = False


def fit_trace(trace: Trace, cluster: ClusterFacts, fitting: Fitting) -> tuple[Trace, int]:
    """A trace that every worker can serve, and how many requests were left out for that.

    Raises `BadInput` for what does not fit, and says which option would make it.
    """
    if fitting.scale_lengths is not None:
        trace = resized(trace, fitting.scale_lengths, cluster.block_size)
    elif trace.block_size % cluster.block_size:
        raise BadInput(
            f"the trace has blocks of {trace.block_size} tokens and the cluster of"
            f" {cluster.block_size}: give --scale-lengths 1 (or less)"
        )
    if fitting.max_output is not None:
        trace = capped(trace, fitting.max_output)
    total = trace.input_tokens + trace.output_tokens
    fits = total <= cluster.max_tokens
    if fits.all():
        return trace, 0
    if not fitting.skip_long:
        first, most_tokens = int(np.flatnonzero(~fits)[0]), int(total.max())
        ratio = cluster.max_tokens / most_tokens * (fitting.scale_lengths or 1.0)
        raise BadInput(
            f"{int((~fits).sum())} requests are too long for this cluster (the first: number"
            f" {first}, {int(total[first]):,} tokens; it takes {cluster.max_tokens:,}): give"
            f" --scale-lengths {ratio:.2g} or --max-output N, or leave them out by --skip-long"
        )
    shorter = kept(trace, fits)
    return shorter, len(trace) - len(shorter)


def idle_since(
    before: pb.ListWorkersResponse, after: pb.ListWorkersResponse, workers: tuple[str, ...]
) -> Numbers | None:
    """Shape (workers, kinds), ns. None: a worker or its sums were not there at both ends."""
    first, last = _idle(before), _idle(after)
    if any(worker not in first or worker not in last for worker in workers):
        return None
    rows = np.array([last[worker] - first[worker] for worker in workers])
    return None if (rows < 0).any() else np.rint(rows * 1e6).astype(np.int64)


def _idle(
    listed: pb.ListWorkersResponse,
) -> Mapping[str, "np.ndarray[tuple[int], np.dtype[np.float64]]"]:
    return {
        one.worker_id: np.array([getattr(one, f"idle_{kind}_ms") for kind in IDLE_KINDS])
        for one in listed.workers
    }
