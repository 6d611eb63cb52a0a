"""The whole runner over a tiny model's folder, and the logits its sampler sees."""

import json
from pathlib import Path

import torch

from radixroute.worker.engine.runner import SequenceSlice, StepPlan
from radixroute.worker.model.torch_runner import TorchRunner, load_runner
from radixroute.worker.settings import WorkerSettings
from tests.worker.tiny import BLOCK_SIZE


def runner_of(folder: Path, dtype="float32", n_blocks=64, **changes) -> TorchRunner:
    config = json.loads((folder / "config.json").read_text())
    heads, layers = config["num_key_value_heads"], config["num_hidden_layers"]
    head_dim = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    itemsize = 4 if dtype == "float32" else 2
    settings = WorkerSettings(
        model=str(folder),
        device="cpu",
        dtype=dtype,
        block_size=BLOCK_SIZE,
        kv_memory=n_blocks * 2 * layers * heads * head_dim * itemsize * BLOCK_SIZE,
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
