"""Kernels of one CPU thread against torch's own arithmetic in double precision."""

import math

import pytest

pytest.importorskip("torch")

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.radix.jit import entry_point, kernel
from radixroute.worker.model.attention.sdpa import SdpaBackend
from radixroute.worker.model.cpu import ops as ops_module
from radixroute.worker.model.cpu import product_kernels as products
from radixroute.worker.model.cpu.backend import CpuBackend
from radixroute.worker.model.cpu.ops import CpuOps
from radixroute.worker.model.kv.layout import KVLayout
from radixroute.worker.model.kv.pool import new_pool
from radixroute.worker.model.layers.linear import Linear
from radixroute.worker.model.layers.ops import Ops

pytestmark = pytest.mark.torch

DTYPES = [torch.float32, torch.bfloat16]
OPS, TORCH = CpuOps(), Ops()
EPS = 1e-5


def rows(*shape, seed, dtype):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(dtype)


def must_equal(found, exact):
    """To the last rounding of the dtype, and a few of float32's."""
    assert found.is_contiguous()
    ulp = torch.finfo(found.dtype).eps
    rtol = ulp / 2 + 4e-6
    torch.testing.assert_close(found.double(), exact, rtol=rtol, atol=4e-6)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES), st.integers(1, 9), st.integers(1, 200), st.booleans(),
    st.integers(0, 99),
)  # fmt: skip
def test_norms(dtype, n, width, weighted, seed):
    x, weight = rows(n, width, seed=seed, dtype=dtype), rows(width, seed=seed + 1, dtype=dtype)
    wide = x.double()
    exact = wide / (wide.square().mean(-1, keepdim=True) + EPS).sqrt()
    found = OPS.rms_norm(x, weight if weighted else None, EPS)
    must_equal(found, exact * weight.double() if weighted else exact)


@settings(max_examples=40, deadline=None, derandomize=True)
@given(st.sampled_from(DTYPES), st.integers(1, 9), st.integers(1, 200), st.integers(0, 99))
def test_a_residual_is_added_and_normed(dtype, n, width, seed):
    x, delta = (rows(n, width, seed=seed + i, dtype=dtype) for i in range(2))
    weight = rows(width, seed=seed + 2, dtype=dtype)
    added = x + delta
    found = OPS.add_norm(x, delta, weight, EPS)
    assert x.equal(added)
    wide = added.double()
    must_equal(found, wide / (wide.square().mean(-1, keepdim=True) + EPS).sqrt() * weight.double())


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES), st.integers(1, 9), st.integers(1, 200), st.sampled_from([1, 30]),
    st.integers(0, 99),
)  # fmt: skip
def test_gates(dtype, n, width, scale, seed):
    gate_up = rows(n, 2 * width, seed=seed, dtype=dtype) * scale
    gate, up = gate_up.double().chunk(2, dim=-1)
    must_equal(OPS.swiglu(gate_up), torch.nn.functional.silu(gate) * up)


@pytest.mark.parametrize("dtype", DTYPES)
def test_gates_at_the_ends_of_what_floats_hold(dtype):
    gate = torch.tensor([-1e30, -200.0, -88.0, 0.0, 200.0, 1e30, math.inf, math.nan], dtype=dtype)
    found = OPS.swiglu(torch.stack([gate, torch.ones_like(gate)]).view(1, -1))[0]
    assert found[:3].abs().max() < 1e-30
    assert found[3:7].equal(gate[3:7])
    assert found[7].isnan()


@settings(max_examples=40, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES), st.integers(1, 9), st.integers(1, 5), st.integers(1, 40),
    st.integers(0, 3), st.integers(0, 99),
)  # fmt: skip
def test_positions_turn_rows_that_lie_among_others(dtype, n, heads, half, further, seed):
    x = rows(n, heads + further, 2 * half, seed=seed, dtype=dtype)[:, :heads]
    angles = rows(n, 1, half, seed=seed + 1, dtype=torch.float32)
    cos, sin = angles.cos().to(dtype), angles.sin().to(dtype)
    found = OPS.rotate(x, cos, sin)
    must_equal(found, TORCH.rotate(x.double(), cos.double(), sin.double()))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.sampled_from(DTYPES), st.integers(1, 40), st.integers(1, 150), st.integers(1, 150),
    st.booleans(), st.integers(0, 99),
)  # fmt: skip
def test_products(dtype, n, columns, width, has_bias, seed):
    x, weight = rows(n, columns, seed=seed, dtype=dtype), rows(width, columns, seed=9, dtype=dtype)
    bias = rows(width, seed=seed + 2, dtype=dtype) if has_bias else None
    found = OPS.linear(x, Linear(weight, bias))
    exact = torch.nn.functional.linear(
        x.double(), weight.double(), None if bias is None else bias.double()
    )
    # Sums of numbers of both signs: the error is of the terms, not of what is left of them.
    atol = 1e-5 * math.sqrt(columns) + torch.finfo(dtype).eps * float(exact.abs().max())
    torch.testing.assert_close(found.double(), exact, rtol=0, atol=atol)


def test_bfloat16_by_widening_where_a_processor_has_no_pairs():
    """The kernel of other processors, compiled here."""
    product = entry_point(kernel(products._SIGNATURE, reorders_sums=True)(products._by_widening))
    for n in (1, 3, 4, 9):
        x, weight = (rows(of, 70, seed=of, dtype=torch.bfloat16) for of in (n, 33))
        wide, out = torch.empty(n * 70), torch.empty(n, 33, dtype=torch.bfloat16)
        given = x.data_ptr(), wide.data_ptr(), weight.data_ptr(), 0, out.data_ptr()
        product(*given, n, 70, 33, 0)
        exact = torch.nn.functional.linear(x.double(), weight.double())
        torch.testing.assert_close(out.double(), exact, rtol=8e-3, atol=1e-4)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("n", [2, 3, 9])
def test_no_numbers_stay_in_their_row_and_are_not_lost(dtype, bad, n):
    """What finds a damaged request looks for them in its logits."""
    x, weight = rows(n, 64, seed=1, dtype=dtype), rows(64, seed=2, dtype=dtype)
    x[1, 17] = bad
    matrix = Linear(rows(48, 64, seed=3, dtype=dtype))
    for found in (
        OPS.rms_norm(x, weight, EPS),
        OPS.add_norm(x.clone(), torch.zeros_like(x), weight, EPS),
        OPS.swiglu(x),
        OPS.linear(x, matrix),
    ):
        sound = found.isfinite().all(-1)
        assert sound.tolist() == [row != 1 for row in range(n)]


def test_what_kernels_do_not_take_is_torchs():
    x = rows(6, 64, seed=1, dtype=torch.float64)
    weight = rows(64, seed=2, dtype=torch.float64)
    assert OPS.rms_norm(x, weight, EPS).equal(TORCH.rms_norm(x, weight, EPS))
    assert OPS.swiglu(x).equal(TORCH.swiglu(x))
    across = rows(64, 6, seed=3, dtype=torch.float32).t()
    ones = torch.ones(64)
    assert OPS.rms_norm(across, ones, EPS).equal(TORCH.rms_norm(across, ones, EPS))
    assert OPS.swiglu(across).equal(TORCH.swiglu(across))


@pytest.mark.parametrize("packs", [True, False])
def test_a_matrix_is_packed_once_and_only_where_asked(packs, monkeypatch):
    made = []
    pack = ops_module._packed

    def counted(weight):
        made.append(weight)
        return pack(weight)

    monkeypatch.setattr(ops_module, "_packed", counted)
    ops = CpuOps(packs=packs)
    matrices = [Linear(rows(48, 64, seed=seed, dtype=torch.float32)) for seed in range(2)]
    for n in (1, 9, 40):
        x = rows(n, 64, seed=9, dtype=torch.float32)
        for matrix in matrices:
            found = ops.linear(x, matrix)
            torch.testing.assert_close(found, TORCH.linear(x, matrix), rtol=1e-4, atol=1e-4)
    assert len(made) == (2 if packs else 0)


@pytest.mark.parametrize("kind", ["latent", "wide group"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_decoding_reads_what_the_gather_reads(kind, dtype):
    """Latents, whose rows are keys and values at once, and groups of many heads."""
    import numpy as np

    from radixroute.worker.engine.runner import SequenceSlice

    heads, width = (12, 24) if kind == "latent" else (8, 16)
    layout = KVLayout.latent(2, 16, 8) if kind == "latent" else KVLayout.keys_and_values(2, 1, 16)
    found = []
    for backend_class in (SdpaBackend, CpuBackend):
        pool = new_pool(layout, 40, 16, dtype=dtype, device=torch.device("cpu"))
        for number, plane in enumerate(pool.planes.values()):
            draw = torch.Generator().manual_seed(number)
            plane.copy_(torch.randn(plane.shape, generator=draw))
        backend = backend_class(pool)
        tables = np.random.default_rng(3).permutation(40).astype(np.int32)
        lengths = [1, 15, 16, 17, 100]
        slices, at = [], 0
        for length in lengths:
            n_blocks = -(-length // 16)
            token = np.zeros(1, np.uint32)
            slices.append(SequenceSlice(token, length - 1, tables[at : at + n_blocks], None))
            at += n_blocks
        backend.plan(slices)
        new = [
            rows(len(lengths), *plane.shape[-2:], seed=5 + i, dtype=dtype)
            for i, plane in enumerate(pool.planes.values())
        ]
        backend.write(1, *new)
        q = rows(len(lengths), heads, width, seed=8, dtype=dtype)
        found.append(backend.read(1, q, 0.3))
    by_gather, by_kernel = found
    rtol = 1e-4 if dtype is torch.float32 else 3e-2
    torch.testing.assert_close(by_kernel, by_gather, rtol=rtol, atol=rtol)
