"""A real cluster with the tiny model, and long answers to ask it for."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from radixroute.deploy.cluster.local import LocalCluster
from radixroute.deploy.settings import ClusterSettings
from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.settings import RouterSettings
from radixroute.worker.settings import WorkerSettings
from tests.e2e.tiny_model import write_tiny_model


@contextmanager
def story_cluster(folder: Path) -> Iterator[LocalCluster]:
    """Two workers under `round_robin`; the model is written into `folder`."""
    worker = WorkerSettings(
        model=str(write_tiny_model(folder)),
        device="cpu",
        dtype="float32",
        kv_memory=16 * 1024 * 1024,
    )
    router = RouterSettings(port=0, http_port=0, policy="round_robin")
    with LocalCluster(ClusterSettings(num_cpus=2, worker=worker, router=router)) as cluster:
        yield cluster


def story(index: int, n_tokens: int) -> pb.GenerateRequest:
    """Asks for so many tokens, always the same ones."""
    return pb.GenerateRequest(
        text=f"Story {index}: " + "once upon a time there was a router. " * 4,
        sampling=pb.SamplingParams(temperature=0.0, max_tokens=n_tokens, ignore_eos=True),
    )
