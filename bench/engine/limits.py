"""What the machine could do at most, measured, and how much of it a call's work asks for.

Owns the two peaks of one machine and the count of a model's work. A limit is the longer of the time
that memory takes to give all bytes and the time that the units take for all FLOPs, as on a roofline
(Williams et al., 2009); one multiplication with its addition is 2 FLOPs.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from radixroute.worker.model.kv.pool import format_of
from radixroute.worker.model.registry import load_config

STREAM_BYTES = 256 * 2**20  # no cache holds it
PRODUCT = 1024  # rows and columns
REPEATS = 7


@dataclass(frozen=True, slots=True)
class Peaks:
    """One thread's, in one dtype."""

    bytes_per_s: float  # reading memory
    flops_per_s: float  # a large matrix product


@dataclass(frozen=True, slots=True)
class Cost:
    """What one call cannot do without."""

    n_bytes: int  # weights once, and K and V that are read
    flops: int

    def times(self, n: int) -> "Cost":
        return Cost(self.n_bytes * n, self.flops * n)

    def seconds(self, peaks: Peaks) -> float:
        return max(self.n_bytes / peaks.bytes_per_s, self.flops / peaks.flops_per_s)

    def limit(self, peaks: Peaks) -> str:
        by_memory = self.n_bytes / peaks.bytes_per_s > self.flops / peaks.flops_per_s
        return "memory" if by_memory else "arithmetic"


def measure_peaks(dtype: torch.dtype) -> Peaks:
    """The best of several tries: whatever else a machine does only takes away."""
    with torch.inference_mode():
        stream = torch.ones(STREAM_BYTES // 4)
        row = torch.ones(4096)
        # Two ways to read it: which is faster differs by machine.
        reads = (stream.sum, lambda: stream.view(-1, 4096) @ row)
        square = torch.ones(PRODUCT, PRODUCT, dtype=dtype)
        bytes_per_s = STREAM_BYTES / min(_least_s(read) for read in reads)
        return Peaks(bytes_per_s, 2 * PRODUCT**3 / _least_s(lambda: square @ square))


def _least_s(run: Callable[[], object]) -> float:
    run()
    taken = []
    for _ in range(REPEATS):
        began = time.perf_counter()
        run()
        taken.append(time.perf_counter() - began)
    return min(taken)


class Costs:
    """Of calls of one model in one dtype."""

    def __init__(self, model: Path, dtype: torch.dtype, n_weights: int, head_weights: int) -> None:
        """`n_weights`: in matrices of all layers; `head_weights`: in the one that gives logits."""
        self._config = load_config(model)
        self._itemsize = dtype.itemsize
        self._layers, self._head = n_weights, head_weights
        self._kv_bytes = self._config.layout.bytes_per_token(format_of(dtype))

    def decode(self, batch: int, context: int) -> Cost:
        """One step: a token each, after so many."""
        weights = self._layers + self._head
        pairs = batch * context
        n_bytes = weights * self._itemsize + pairs * self._kv_bytes
        return Cost(n_bytes, 2 * batch * weights + self._attention(pairs))

    def prefill(self, n_tokens: int) -> Cost:
        """A prompt and its first token."""
        pairs = n_tokens * (n_tokens + 1) // 2
        n_bytes = (self._layers + self._head) * self._itemsize
        return Cost(n_bytes, 2 * (n_tokens * self._layers + self._head) + self._attention(pairs))

    def _attention(self, pairs: int) -> int:
        """FLOPs of all layers' heads, which together are as wide as the model."""
        return 4 * pairs * self._config.n_layers * self._config.hidden
