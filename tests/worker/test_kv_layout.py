"""What a token keeps: bytes from the layout are those of the pool's tensors."""

import subprocess
import sys

import pytest

from radixroute.worker.model.kv.layout import KVLayout

LAYOUTS = {
    "MHA": KVLayout.keys_and_values(3, 8, 16),
    "GQA": KVLayout.keys_and_values(3, 2, 16),
    "MQA": KVLayout.keys_and_values(3, 1, 16),
    "MLA": KVLayout.latent(3, 32, 8),
}


def test_bytes_of_a_token_follow_from_heads_and_widths():
    numbers = {name: layout.features_per_token for name, layout in LAYOUTS.items()}
    assert numbers == {"MHA": 768, "GQA": 192, "MQA": 96, "MLA": 120}
    assert LAYOUTS["GQA"].bytes_per_token(2) == 384


@pytest.mark.torch
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", ["float32", "bfloat16", "float16"])
def test_a_pool_takes_exactly_the_bytes_that_the_layout_says(layout, name):
    torch = pytest.importorskip("torch")
    from radixroute.worker.model.kv.pool import blocks_that_fit, new_pool

    dtype = getattr(torch, name)
    memory = 30_000
    n_blocks = blocks_that_fit(layout, kv_memory=memory, block_size=4, itemsize=dtype.itemsize)
    pool = new_pool(layout, n_blocks, 4, dtype=dtype, device=torch.device("cpu"))
    taken = sum(plane.nbytes for plane in pool.planes.values())
    assert taken == layout.bytes_per_token(dtype.itemsize) * n_blocks * 4
    assert taken <= memory < taken + layout.bytes_per_token(dtype.itemsize) * 4
    assert list(pool.planes) == [plane.name for plane in layout.planes]


def test_a_configuration_is_read_without_torch():
    program = "import sys, radixroute.worker.model.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
