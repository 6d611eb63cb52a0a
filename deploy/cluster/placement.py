"""Is there room in Ray for the actors? Asked before any is created, so that a start cannot hang.

Ray keeps an actor that fits nowhere pending for ever and says so only in its logs. The arithmetic
is pure; `rooms` reads Ray.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf

from radixroute.deploy.errors import PlacementError
from radixroute.deploy.settings import ClusterSettings

# Ray counts resources in units of 1/10,000; a sum of fractions may miss a whole by less than that.
_SLACK = 1e-4


@dataclass(frozen=True, slots=True)
class NodeRoom:
    """What one Ray node has left."""

    node_id: str
    cpus: float
    gpus: float


def check_room(rooms: Sequence[NodeRoom], settings: ClusterSettings, here: str) -> None:
    """Raises `PlacementError` unless every worker of `settings` fits; `here` is the router's node.

    Workers are alike, so filling node by node is exact.
    """
    open_to_us = [room for room in rooms if settings.spread or room.node_id == here]
    fitting = sum(_workers_in(room, settings) for room in open_to_us)
    if fitting >= settings.workers:
        return
    cpus, gpus = sum(room.cpus for room in open_to_us), sum(room.gpus for room in open_to_us)
    raise PlacementError(
        f"Ray has room for {fitting:.0f} of {settings.workers} workers: each needs "
        f"{settings.num_cpus_per_worker:g} CPU and {settings.num_gpus_per_worker:g} GPU, "
        f"and {cpus:g} CPU and {gpus:g} GPU are free "
        f"{'in the cluster' if settings.spread else 'on this node'}. "
        "Ask for fewer workers, or give Ray more (num_cpus, num_gpus, more nodes with spread)."
    )


def _workers_in(room: NodeRoom, settings: ClusterSettings) -> float:
    needs = (
        (room.cpus, settings.num_cpus_per_worker),
        (room.gpus, settings.num_gpus_per_worker),
    )
    return min((floor(free / need + _SLACK) for free, need in needs if need > 0), default=inf)
