"""Whoever warms has every kernel of the room loaded."""

from radixroute.events import flat, vllm_usual, warm


def test_warming_loads_the_kernels_of_foreign_events():
    for kernel in (vllm_usual._kernel, flat._kernel):
        kernel.cache_clear()
    assert vllm_usual.decode_usual(0, warm._SMALL) is not None
    assert flat.decode_flat(0, warm._SMALL) is not None
    for kernel in (vllm_usual._kernel, flat._kernel):
        kernel.cache_clear()
    warm.warm()
    assert vllm_usual._kernel.cache_info().currsize == 1
    assert flat._kernel.cache_info().currsize == 1
