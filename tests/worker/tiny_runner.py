"""The whole runner over a tiny model's folder, and the logits its sampler sees."""

from pathlib import Path

import torch

from radixroute.worker.engine.runner import SequenceSlice, StepPlan
from radixroute.worker.model.kv.formats import FORMATS
from radixroute.worker.model.registry import load_config
from radixroute.worker.model.torch_runner import TorchRunner, load_runner
from radixroute.worker.settings import WorkerSettings
from tests.worker.tiny import BLOCK_SIZE


def runner_of(folder: Path, dtype="float32", n_blocks=64, **changes) -> TorchRunner:
    block_bytes = load_config(folder).layout.bytes_per_token(FORMATS[dtype]) * BLOCK_SIZE
    settings = WorkerSettings(
        model=str(folder),
        device="cpu",
        dtype=dtype,
        block_size=BLOCK_SIZE,
        kv_memory=n_blocks * block_bytes,
        **changes,
    )
    return load_runner(settings)


def last_logits(runner: TorchRunner, monkeypatch, *parts: SequenceSlice) -> torch.Tensor:
    """One row for each slice that samples."""
    seen: list[torch.Tensor] = []

    def spy(logits, choices):
        seen.append(logits.clone())
        return (0,) * len(choices), {}

    with monkeypatch.context() as patch:
        patch.setattr("radixroute.worker.model.torch_runner.choose", spy)
        runner.execute(StepPlan(parts))
    return seen[0]
