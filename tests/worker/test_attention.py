"""The backends against attention written out for one token at a time."""

import math
from copy import copy
from itertools import pairwise

import numpy as np
import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.worker.engine.runner import SequenceSlice
from radixroute.worker.engine.window import n_blocks_gone
from radixroute.worker.model.attention.sdpa import MAX_PADDING, SdpaBackend, _grouped
from radixroute.worker.model.cpu.backend import CpuBackend
from radixroute.worker.model.kv.formats import FLOAT32, FORMATS
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.kv.pool import new_pool
from radixroute.worker.model.kv.rounding import restored, rounded

pytestmark = pytest.mark.torch

LAYERS, BLOCK_SIZE, HEADS, KV_HEADS, HEAD_DIM = 2, 4, 6, 2, 8
N_BLOCKS = 90
# What nobody wrote: far beyond any score, or no number at all, which no mask hides.
GARBAGE = (1e4, math.nan, math.inf, -math.inf)


def new_backend(garbage=math.nan, *, kv_format=FLOAT32, window=None):
    layout = KVLayout.keys_and_values(LAYERS, KV_HEADS, HEAD_DIM, window=window)
    cpu = torch.device("cpu")
    pool = new_pool(
        layout, N_BLOCKS, BLOCK_SIZE, dtype=torch.float32, device=cpu, kv_format=kv_format
    )
    for tensor in (*pool.planes.values(), *pool.scales.values()):
        # fp8 holds neither 1e4 nor an infinity, int8 has scales for that.
        whole = {torch.int8: -1, torch.float8_e4m3fn: math.nan}
        tensor.fill_(whole.get(tensor.dtype, garbage))
    return ours(pool) if ours is not CpuBackend or CpuBackend.fits(pool) else SdpaBackend(pool)


ours = SdpaBackend


@pytest.fixture(autouse=True, params=[SdpaBackend, CpuBackend], scope="module")
def backend_class(request):
    """Whose turn it is. Of a module: hypothesis wants no fixture that a test makes anew."""
    global ours
    ours = request.param


class Sequence:
    """K and V of every position and layer, and the blocks they belong in."""

    def __init__(self, n_tokens, blocks, seed, like=None, n_shared=0, *, window=None):
        draw = torch.Generator().manual_seed(seed)
        self.k, self.v = (
            torch.randn(LAYERS, n_tokens, KV_HEADS, HEAD_DIM, generator=draw) for _ in range(2)
        )
        self.q = torch.randn(LAYERS, n_tokens, HEADS, HEAD_DIM, generator=draw)
        if like is not None:
            self.k[:, :n_shared], self.v[:, :n_shared] = like.k[:, :n_shared], like.v[:, :n_shared]
        self.blocks = np.array(blocks, dtype=np.int32)
        self.window = window

    def part(self, start, stop):
        n_blocks, n_gone = -(-stop // BLOCK_SIZE), n_blocks_gone(start, BLOCK_SIZE, self.window)
        tokens = np.zeros(stop - start, dtype=np.uint32)
        return SequenceSlice(tokens, start, self.blocks[n_gone:n_blocks], None, first_block=n_gone)

    def rounded(self, kv_format):
        """K and V as the pool gives them back."""
        for name in "kv":
            rows = getattr(self, name).flatten(0, 1)
            back = restored(rounded(rows, kv_format), kv_format, torch.float32)
            setattr(self, name, back.view_as(getattr(self, name)))

    def expected(self, layer, start, stop):
        kv_head = [head * KV_HEADS // HEADS for head in range(HEADS)]
        k, v = self.k[layer][:, kv_head].double(), self.v[layer][:, kv_head].double()
        q = self.q[layer].double() / math.sqrt(HEAD_DIM)
        rows = []
        for position in range(start, stop):
            seen = slice(max(0, position + 1 - (self.window or position + 1)), position + 1)
            scores = torch.einsum("phd,hd->hp", k[seen], q[position])
            weights = torch.softmax(scores, 1)
            rows.append(torch.einsum("hp,phd->hd", weights, v[seen]))
        return torch.stack(rows).float()


def run(backend, *work, given=None):
    """One step over (sequence, start, stop); every layer is compared.

    `given`: the sequences whose K and V are written, where the pool rounds them.
    """
    sources = given or [sequence for sequence, _, _ in work]
    backend.plan([sequence.part(start, stop) for sequence, start, stop in work])
    cuts = [stop - start for _, start, stop in work]
    for layer in range(LAYERS):
        q, k, v = (
            torch.cat(
                [
                    getattr(source, name)[layer, start:stop]
                    for source, (_, start, stop) in zip(sources, work, strict=True)
                ]
            )
            for name in "qkv"
        )
        backend.write(layer, k, v)
        found = backend.read(layer, q, HEAD_DIM**-0.5).split(cuts)
        for (sequence, start, stop), seen in zip(work, found, strict=True):
            expected = sequence.expected(layer, start, stop)
            torch.testing.assert_close(seen, expected, rtol=1e-4, atol=1e-5)


def scattered(n_tokens, seed=0):
    return np.random.default_rng(seed).permutation(N_BLOCKS)[: -(-n_tokens // BLOCK_SIZE)]


@pytest.mark.parametrize("n_tokens", [1, 2, 4, 5, 23])
def test_a_fresh_prompt_sees_itself_up_to_each_token(n_tokens):
    run(new_backend(), (Sequence(n_tokens, scattered(n_tokens), seed=1), 0, n_tokens))


@pytest.mark.parametrize("blocks", [range(7, 20), scattered(50)], ids=["in a row", "scattered"])
def test_chunks_and_decodes_see_what_earlier_steps_wrote(blocks):
    backend, sequence = new_backend(), Sequence(50, blocks, seed=2)
    for start, stop in pairwise([0, 7, 8, 9, 24, 40, 48, 49, 50]):
        run(backend, (sequence, start, stop))


def test_a_later_slice_sees_blocks_that_an_earlier_one_writes_in_the_same_step():
    backend = new_backend()
    first = Sequence(20, range(10, 15), seed=3)
    second = Sequence(21, [10, 11, 12, 13, 40, 41], seed=4, like=first, n_shared=16)
    third = Sequence(17, [10, 11, 12, 13, 50], seed=5, like=first, n_shared=16)
    run(backend, (first, 0, 20), (second, 16, 21), (third, 16, 17))


@settings(max_examples=30, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.integers(0, 30), st.sampled_from([1, 1, 1, 2, 5, 9])), min_size=1, max_size=8
    ),
    st.sampled_from(GARBAGE),
    st.none() | st.integers(1, 20),
    st.sampled_from([FLOAT32, FLOAT32, *FORMATS.values()]),
)
def test_any_mixture_of_slices_in_a_step_is_computed_as_if_alone(
    shapes, garbage, window, kv_format
):
    """With any window, and of the numbers that a format keeps: written in one step or earlier."""
    backend = new_backend(garbage, window=window, kv_format=kv_format)
    free = list(scattered(N_BLOCKS * BLOCK_SIZE, seed=6))
    work, unrounded = [], []
    for seed, (start, n_tokens) in enumerate(shapes):
        n_blocks = -(-(start + n_tokens) // BLOCK_SIZE)
        blocks, free = free[:n_blocks], free[n_blocks:]
        sequence = Sequence(start + n_tokens, blocks, seed, window=window)
        given = copy(sequence)
        sequence.rounded(kv_format)
        if start:
            run(backend, (sequence, 0, start), given=[given])
        work.append((sequence, start, start + n_tokens))
        unrounded.append(given)
    run(backend, *work, given=unrounded)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=70))
def test_batches_hold_every_sequence_once_and_little_padding(lengths):
    groups = _grouped(lengths)
    assert sorted(i for group in groups for i in group) == list(range(len(lengths)))
    for group in groups:
        longest, real = max(lengths[i] for i in group), sum(lengths[i] for i in group)
        assert longest * len(group) <= MAX_PADDING * real
    if max(lengths) <= 1.2 * min(lengths):
        assert len(groups) == 1
