"""What a token keeps: bytes from the layout are those of the pool's tensors."""

import subprocess
import sys

import pytest

from radixroute.worker.model.kv.formats import FORMATS
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
    assert LAYOUTS["GQA"].bytes_per_token(FORMATS["float16"]) == 384
    assert LAYOUTS["GQA"].bytes_per_token(FORMATS["int8"]) == 3 * 2 * 2 * (16 + 4)


@pytest.mark.torch
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("block_size", [8, 16, 256])
def test_a_pool_takes_exactly_the_bytes_that_the_layout_says(layout, name, block_size):
    torch = pytest.importorskip("torch")
    from radixroute.worker.model.kv.pool import blocks_that_fit, new_pool

    memory, kv_format = 2_000_000, FORMATS[name]
    n_blocks = blocks_that_fit(layout, kv_memory=memory, block_size=block_size, kv_format=kv_format)
    pool = new_pool(
        layout,
        n_blocks,
        block_size,
        dtype=torch.float32,
        device=torch.device("cpu"),
        kv_format=kv_format,
    )
    block_bytes = layout.bytes_per_token(kv_format) * block_size
    assert pool.n_bytes == block_bytes * n_blocks
    assert pool.n_bytes <= memory < pool.n_bytes + block_bytes
    assert list(pool.planes) == [plane.name for plane in layout.planes]


def test_a_configuration_is_read_without_torch():
    program = "import sys, radixroute.worker.model.registry; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
