"""Placement: whether Ray has the resources for the workers, checked before any actor is made.

Ray keeps an actor that fits nowhere pending for ever and says so only in its logs: without this a
start would hang. Pure arithmetic; never reads Ray. Called by `cluster` with what its nodes have.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor, inf

from radixroute.deploy.errors import PlacementError
from radixroute.deploy.settings import ClusterSettings

# Ray counts resources in units of 1/10,000; a sum of fractions may miss a whole by less than that.
_SLACK = 1e-4


@dataclass(frozen=True, slots=True)
class NodeResources:
    """What one Ray node has left."""

    node_id: str
    cpus: float
    gpus: float


def check_resources(
    nodes: Sequence[NodeResources], settings: ClusterSettings, router_node: str
) -> None:
    """Raises `PlacementError` unless every worker of `settings` fits.

    Workers are alike, so filling node by node is exact.
    """
    usable = [node for node in nodes if settings.spread or node.node_id == router_node]
    fitting = sum(_workers_on(node, settings) for node in usable)
    if fitting >= settings.workers:
        return
    cpus, gpus = sum(node.cpus for node in usable), sum(node.gpus for node in usable)
    raise PlacementError(
        f"Ray has room for {fitting:.0f} of {settings.workers} workers: each needs "
        f"{settings.num_cpus_per_worker:g} CPU and {settings.num_gpus_per_worker:g} GPU, "
        f"and {cpus:g} CPU and {gpus:g} GPU are free "
        f"{'in the cluster' if settings.spread else 'on this node'}. "
        "Ask for fewer workers, or give Ray more (num_cpus, num_gpus, more nodes with spread)."
    )


def _workers_on(node: NodeResources, settings: ClusterSettings) -> float:
    needs = (
        (node.cpus, settings.num_cpus_per_worker),
        (node.gpus, settings.num_gpus_per_worker),
    )
    return min((floor(free / need + _SLACK) for free, need in needs if need > 0), default=inf)
