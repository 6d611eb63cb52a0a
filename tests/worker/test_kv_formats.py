"""KV formats: rounded as a reference in numpy rounds, bit for bit; what is no number stays none."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.worker.model.kv.formats import FORMATS, INT8, format_named
from radixroute.worker.model.kv.rounding import STORED, restored, rounded
from tests.worker.reference_rounding import REFERENCES

pytestmark = pytest.mark.torch

SPECIAL = [
    *(0.0, -0.0, 1.0, -1.0, 1e-45, -1e-45, 1.1754944e-38, 1e-38, 1.5e-36, 2.0**-9, 2.0**-10),
    *(3 * 2.0**-10, 2.0**-6, 0.9375, 1.0625, 1.1875, 17.0, 19.0, 448.0, 449.0, 463.0, 464.0),
    *(480.0, 1e4, 65504.0, 65519.0, 65520.0, 1e5, 3e38, -3e38, 63.5, 127.0, 0.5),
]
NO_NUMBERS = [float("nan"), float("inf"), float("-inf")]
LARGEST = float(np.float32(3e38))  # int8 reads the last 2^-23 below the largest float32 as infinite
floats = st.sampled_from(SPECIAL) | st.floats(-LARGEST, LARGEST, width=32)


@st.composite
def rows(draw, elements=floats):
    shape = draw(st.tuples(st.integers(1, 4), st.integers(1, 3), st.integers(1, 5)))
    size = int(np.prod(shape))
    flat = draw(st.lists(elements, min_size=size, max_size=size))
    return np.array(flat, np.float32).reshape(shape)


def bits_of(values):
    whole = {1: torch.uint8, 2: torch.uint16, 4: torch.uint32}[values.element_size()]
    return values.view(whole).numpy()


def assert_as_the_reference(name, x):
    kept = rounded(torch.from_numpy(x.copy()), FORMATS[name])
    bits, scales, back = REFERENCES[name](x.copy())
    numbers = np.isfinite(back)
    assert kept.values.dtype is STORED[name]
    assert (bits_of(kept.values) == bits.view(bits_of(kept.values).dtype))[numbers].all()
    if scales is None:
        assert kept.scales is None
    else:
        assert kept.scales.numpy().tobytes() == scales.tobytes()
    read = restored(kept, FORMATS[name], torch.float32).numpy()
    assert (np.isfinite(read) == numbers).all()
    assert (read.view(np.uint32) == back.view(np.uint32))[numbers].all()


@pytest.mark.parametrize("name", FORMATS)
@given(x=rows())
@settings(max_examples=60, deadline=None)
def test_a_format_is_the_reference_bit_for_bit(name, x):
    assert_as_the_reference(name, x)


@pytest.mark.parametrize("name", FORMATS)
@given(x=rows(st.sampled_from([*SPECIAL, *NO_NUMBERS])))
@settings(max_examples=40, deadline=None)
def test_what_is_no_number_is_read_as_none(name, x):
    assert_as_the_reference(name, x)
    read = restored(rounded(torch.from_numpy(x), FORMATS[name]), FORMATS[name], torch.float32)
    assert (~read.isfinite().numpy())[~np.isfinite(x)].all()


@pytest.mark.parametrize("name", ["float16", "int8", "fp8_e4m3"])
@given(x=rows())
@settings(max_examples=30, deadline=None)
def test_a_finite_number_stays_finite(name, x):
    read = restored(rounded(torch.from_numpy(x), FORMATS[name]), FORMATS[name], torch.float32)
    assert read.isfinite().all()


@pytest.mark.parametrize("name", FORMATS)
def test_many_numbers_of_every_size_are_the_reference(name):
    rng = np.random.default_rng(7)
    x = rng.normal(size=(64, 3, 16)) * 2.0 ** rng.integers(-20, 12, (64, 3, 16))
    assert_as_the_reference(name, x.astype(np.float32))


def test_every_code_of_fp8_is_read_as_torch_reads_it():
    codes = torch.arange(256, dtype=torch.int32).to(torch.uint8).view(torch.float8_e4m3fn)
    for some in (codes, codes[codes.float().isfinite()]):
        kept = type(rounded(torch.zeros(1, 1, 1), FORMATS["fp8_e4m3"]))(some[None, None], None)
        read = restored(kept, FORMATS["fp8_e4m3"], torch.float32)
        assert torch.equal(read[0, 0].nan_to_num(7e7), some.float().nan_to_num(7e7))


@pytest.mark.parametrize("name", FORMATS)
def test_a_token_of_a_head_is_rounded_by_itself(name):
    x = torch.randn(6, 2, 8, generator=torch.Generator().manual_seed(3))
    alone = rounded(x[4:5, 1:], FORMATS[name])
    others = rounded(x * torch.tensor([1e3, 1.0])[:, None], FORMATS[name])
    assert torch.equal(bits_tensor(alone.values), bits_tensor(others.values)[4:5, 1:])


def bits_tensor(values):
    return torch.from_numpy(bits_of(values.contiguous()).astype(np.int64))


@pytest.mark.parametrize("name", FORMATS)
def test_bfloat16_rows_are_rounded_from_what_they_are(name):
    x = torch.randn(5, 2, 8, generator=torch.Generator().manual_seed(4)).bfloat16()
    kept, exact = rounded(x, FORMATS[name]), rounded(x.float(), FORMATS[name])
    assert torch.equal(bits_tensor(kept.values), bits_tensor(exact.values))
    assert restored(kept, FORMATS[name], torch.bfloat16).dtype is torch.bfloat16


def test_sizes_are_those_of_the_tensors():
    x = torch.randn(3, 2, 10)
    for one in FORMATS.values():
        kept = rounded(x, one)
        n_bytes = kept.values.numel() * kept.values.element_size()
        n_bytes += 0 if kept.scales is None else 4 * kept.scales.numel()
        assert n_bytes == 3 * one.bytes_of(2, 10)


def test_formats_have_short_names_too():
    assert format_named("fp8") is FORMATS["fp8_e4m3"]
    assert format_named("int8") is INT8
    assert format_named("int4") is None
