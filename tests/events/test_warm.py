"""Whoever warms has every kernel of the room loaded."""

from radixroute.events import warm
from radixroute.events.engines import flat


def test_warming_loads_the_kernels_of_foreign_events():
    assert flat.decode_flat(0, warm._SMALL) is not None
    flat._kernel.cache_clear()
    warm.warm()
    assert flat._kernel.cache_info().currsize == 1
