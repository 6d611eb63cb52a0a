"""Warming loads what the first event would otherwise wait for."""

from radixroute.events import vllm_usual, warm


def test_warming_loads_the_kernels_of_foreign_events_too():
    vllm_usual._kernel.cache_clear()
    assert vllm_usual.decode_usual(0, warm._SMALL) is not None
    vllm_usual._kernel.cache_clear()
    warm.warm()
    assert vllm_usual._kernel.cache_info().currsize == 1
