"""The invariant backend: any cuts, companions and places in the pool give a row the same bits.

Over every kind of layout, format and window; the pool holds NaN wherever nobody wrote.
"""

import math

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.engine.window import n_blocks_gone
from radixroute.worker.model.attention.invariant import SPLIT, InvariantBackend
from radixroute.worker.model.kv.formats import BFLOAT16, FLOAT32, FP8_E4M3, INT8
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.kv.pool import new_pool

pytestmark = pytest.mark.torch

N_TOKENS, BLOCK_SIZE, HEADS, SCALE = 2 * SPLIT + 30, 8, 6, 0.3
N_BLOCKS = 2 * -(-N_TOKENS // BLOCK_SIZE)
KINDS = {
    "groups": (KVLayout.keys_and_values(1, 2, 12), FLOAT32),
    "one head": (KVLayout.keys_and_values(1, 1, 8), FLOAT32),
    "latent": (KVLayout.latent(1, 20, 4), FLOAT32),
    "int8": (KVLayout.keys_and_values(1, 2, 8), INT8),
    "fp8": (KVLayout.keys_and_values(1, 2, 8), FP8_E4M3),
    "bfloat16": (KVLayout.keys_and_values(1, 2, 8), BFLOAT16),
    "short window": (KVLayout.keys_and_values(1, 2, 8, window=21), FLOAT32),
    "long window": (KVLayout.keys_and_values(1, 2, 8, window=SPLIT + 9), FLOAT32),
}


class Sequence:
    """Queries and cache rows of every position."""

    def __init__(self, layout, seed, blocks):
        draw = torch.Generator().manual_seed(seed)
        self.q = torch.randn(N_TOKENS, HEADS, layout.planes[0].width, generator=draw)
        self.planes = [
            torch.randn(N_TOKENS, plane.heads, plane.width, generator=draw)
            for plane in layout.planes
        ]
        self.blocks, self.window = blocks, layout.window

    def part(self, start, stop):
        n_gone = n_blocks_gone(start, BLOCK_SIZE, self.window)
        table = self.blocks[n_gone : -(-stop // BLOCK_SIZE)]
        tokens = np.zeros(stop - start, np.uint32)
        return SequenceSlice(tokens, start, table, None, first_block=n_gone)


def backend_over(layout, kv_format):
    torch.set_num_threads(1)
    cpu = torch.device("cpu")
    pool = new_pool(
        layout, N_BLOCKS, BLOCK_SIZE, dtype=torch.float32, device=cpu, kv_format=kv_format
    )
    for tensor in (*pool.planes.values(), *pool.scales.values()):
        tensor.fill_(-1 if tensor.dtype is torch.int8 else math.nan)
    return InvariantBackend(pool)


def step(backend, *runs):
    """Attention of each (sequence, start, stop)."""
    backend.plan([one.part(start, stop) for one, start, stop in runs])
    planes = zip(*([p[a:b] for p in one.planes] for one, a, b in runs), strict=True)
    backend.write(0, *(torch.cat(rows) for rows in planes))
    seen = backend.read(0, torch.cat([one.q[a:b] for one, a, b in runs]), SCALE)
    return seen.split([stop - start for _, start, stop in runs])


def tables(seed):
    """Blocks of two sequences, anywhere in the pool."""
    order = np.random.default_rng(seed).permutation(N_BLOCKS).astype(np.int32)
    return order[: N_BLOCKS // 2], order[N_BLOCKS // 2 :]


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=8, deadline=None, derandomize=True, print_blob=True)
@given(
    cuts=st.sets(st.integers(1, N_TOKENS - 1), max_size=8),
    beside=st.integers(1, 40),
    seed=st.integers(0, 99),
)
def test_any_cuts_and_companions_give_the_bits_of_one_step_alone(kind, cuts, beside, seed):
    layout, kv_format = KINDS[kind]
    alone = Sequence(layout, 1, tables(0)[0])
    (whole,) = step(backend_over(layout, kv_format), (alone, 0, N_TOKENS))
    own, others = tables(seed)
    one, other = Sequence(layout, 1, own), Sequence(layout, 2, others)
    backend, found, done = backend_over(layout, kv_format), [], 0
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), N_TOKENS], strict=True):
        ahead = min(done + beside, N_TOKENS)
        runs = [(other, done, ahead)] if ahead > done else []
        found.append(step(backend, *runs, (one, start, stop))[-1])
        done = ahead
    assert torch.equal(torch.cat(found), whole)


@pytest.mark.parametrize("kind", [kind for kind, one in KINDS.items() if one[1] is FLOAT32])
def test_it_is_attention(kind):
    layout, kv_format = KINDS[kind]
    one = Sequence(layout, 3, tables(0)[0])
    (seen,) = step(backend_over(layout, kv_format), (one, 0, N_TOKENS))
    position = torch.arange(N_TOKENS)
    sees = position[None] <= position[:, None]
    if layout.window is not None:
        sees &= position[None] > position[:, None] - layout.window
    group = HEADS // layout.kv_heads
    keys, values = (
        plane.double().repeat_interleave(group, 1).transpose(0, 1)
        for plane in (one.planes[0], one.planes[-1][..., : layout.value_width])
    )
    expected = functional.scaled_dot_product_attention(
        one.q.double().transpose(0, 1), keys, values, attn_mask=sees, scale=SCALE
    )
    torch.testing.assert_close(seen.double(), expected.transpose(0, 1), rtol=1e-4, atol=1e-5)
