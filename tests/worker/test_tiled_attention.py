"""Attention by tiles equals attention in one piece, across tile borders and cached prefixes."""

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from torch.nn import functional

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.attention.tiled import TILE, Places, tiled_attention
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.kv.pool import new_pool

pytestmark = pytest.mark.torch

KV_HEADS, GROUP, HEAD_DIM = 2, 3, 16


def drawn(start, n, dtype=torch.float32):
    draw = torch.Generator().manual_seed(start * 10_000 + n)
    q = torch.randn(n, KV_HEADS, GROUP, HEAD_DIM, generator=draw)
    k, v = (torch.randn(start + n, KV_HEADS, HEAD_DIM, generator=draw) for _ in range(2))
    return q.to(dtype), k.to(dtype), v.to(dtype)


def in_one_piece(q, k, v, start, window=None):
    """(tokens, kv_heads, group, head_dim), float64."""
    places, own = torch.arange(len(k))[None], torch.arange(start, start + len(q))[:, None]
    unseen = (places > own) | (places <= own - (window or len(k)))
    hidden = torch.zeros(unseen.shape, dtype=torch.float64).masked_fill(unseen, float("-inf"))
    shared = (KV_HEADS, GROUP, len(k), HEAD_DIM)
    seen = functional.scaled_dot_product_attention(
        q.double().permute(1, 2, 0, 3),
        k.double().transpose(0, 1)[:, None].expand(shared),
        v.double().transpose(0, 1)[:, None].expand(shared),
        attn_mask=hidden,
    )
    return seen.permute(2, 0, 1, 3)


@pytest.mark.parametrize("start", [0, 1, 90])
@pytest.mark.parametrize("n", [1, 2, TILE - 1, TILE, TILE + 1, 2 * TILE + 44])
def test_tiles_see_what_one_piece_sees(start, n):
    q, k, v = drawn(start, n)
    out = torch.empty_like(q)
    tiled_attention(q, k, v, Places(start), HEAD_DIM**-0.5, out)
    torch.testing.assert_close(out.double(), in_one_piece(q, k, v, start), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("window", [1, 2, 100, TILE, TILE + 1, 3 * TILE])
@pytest.mark.parametrize(("start", "n"), [(0, 1), (0, 2 * TILE + 44), (90, TILE + 1), (300, 5)])
def test_tiles_see_no_further_than_the_window(start, n, window):
    q, k, v = drawn(start, n)
    out = torch.empty_like(q)
    tiled_attention(q, k, v, Places(start, window), HEAD_DIM**-0.5, out)
    wanted = in_one_piece(q, k, v, start, window)
    torch.testing.assert_close(out.double(), wanted, rtol=1e-4, atol=1e-5)


def test_a_bfloat16_pool_on_a_cpu_is_read_by_tiles_and_stays_close(monkeypatch):
    n, cached = TILE + 40, 64
    calls = []

    def counted(*given):
        calls.append(given[3])
        tiled_attention(*given)

    monkeypatch.setattr("radixroute.worker.model.attention.sdpa.tiled_attention", counted)
    layout = KVLayout.keys_and_values(1, KV_HEADS, HEAD_DIM)
    pool = new_pool(layout, 16, 16, dtype=torch.bfloat16, device=torch.device("cpu"))
    backend = SdpaBackend(pool)
    q, k, v = drawn(0, n, torch.bfloat16)
    table = np.random.default_rng(1).permutation(16).astype(np.int32)
    found = []
    for start, stop in ((0, cached), (cached, n)):
        tokens = np.zeros(stop - start, dtype=np.uint32)
        backend.plan([SequenceSlice(tokens, start, table[: -(-stop // 16)], None)])
        backend.write(0, k[start:stop], v[start:stop])
        found.append(backend.read(0, q[start:stop].flatten(1, 2), HEAD_DIM**-0.5))
    assert calls == [Places(0), Places(cached)]
    seen = torch.cat(found).view(n, KV_HEADS, GROUP, HEAD_DIM)
    torch.testing.assert_close(seen.double(), in_one_piece(q, k, v, 0), rtol=0.02, atol=0.02)
