"""CPU time of one decode step over a long context, with K and V kept in a format."""

from statistics import median
from time import process_time

import numpy as np
import torch

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.families.family import Model
from radixroute.worker.model.kv.pool import KVPool

N_STEPS = 8


@torch.inference_mode()
def decode_ms(model: Model, pool: KVPool, context_len: int) -> float:
    """CPU time, one thread: median of some steps of one sequence whose blocks are scattered."""
    n_blocks = -(-(context_len + 1) // pool.block_size)
    table = np.random.default_rng(1).permutation(pool.n_blocks)[:n_blocks].astype(np.int32)
    one = SequenceSlice(np.zeros(1, np.uint32), context_len, table, None)
    backend = SdpaBackend(pool)
    took = []
    for _ in range(N_STEPS):
        began = process_time()
        backend.plan([one])
        hidden = model.forward(
            torch.zeros(1, dtype=torch.int64), torch.tensor([context_len]), backend
        )
        model.logits(hidden)
        took.append((process_time() - began) * 1e3)
    return median(took)
