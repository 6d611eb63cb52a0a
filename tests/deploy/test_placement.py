"""Room is judged before any actor is made."""

from typing import Any

import pytest

from radixroute.deploy.cluster.placement import NodeResources, check_resources
from radixroute.deploy.errors import PlacementError
from radixroute.deploy.settings import ClusterSettings
from radixroute.worker.settings import WorkerSettings

SPREAD: dict[str, Any] = {"spread": True, "worker": WorkerSettings(insecure_bind=True)}


def _node(name: str, cpus: float, gpus: float = 0.0) -> NodeResources:
    return NodeResources(name, cpus, gpus)


def test_workers_that_fit_exactly_are_accepted():
    check_resources([_node("here", 2)], ClusterSettings(workers=2), "here")


def test_too_few_cpus_are_named_with_what_is_free():
    with pytest.raises(PlacementError, match=r"room for 1 of 2 .* 1 CPU and 0 GPU are free"):
        check_resources([_node("here", 1)], ClusterSettings(workers=2), "here")


def test_a_missing_gpu_is_named():
    with pytest.raises(PlacementError, match=r"needs 1 CPU and 1 GPU"):
        check_resources([_node("here", 8)], ClusterSettings(num_gpus_per_worker=1.0), "here")


def test_other_nodes_count_only_when_workers_may_spread():
    nodes = [_node("here", 1), _node("there", 1)]
    with pytest.raises(PlacementError, match="on this node"):
        check_resources(nodes, ClusterSettings(workers=2), "here")
    check_resources(nodes, ClusterSettings(workers=2, **SPREAD), "here")


def test_a_worker_is_not_split_over_two_nodes():
    nodes = [_node("here", 1.5), _node("there", 1.5)]
    with pytest.raises(PlacementError, match="room for 2 of 3"):
        check_resources(nodes, ClusterSettings(workers=3, **SPREAD), "here")


def test_fractions_that_add_up_to_a_whole_fit():
    settings = ClusterSettings(workers=10, num_cpus_per_worker=0.1)
    check_resources([_node("here", sum([0.1] * 10))], settings, "here")


def test_workers_that_need_nothing_always_fit():
    check_resources([_node("here", 0)], ClusterSettings(workers=9, num_cpus_per_worker=0.0), "here")
