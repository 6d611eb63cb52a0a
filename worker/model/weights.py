"""Weights of a Hugging Face folder: tensors by name, checked, and the fingerprint of a model.

Owns reading safetensors (one file or sharded). Never guesses: a missing, misshapen or torn tensor
is an error that names the file. Called by the runner's start only. Needs torch and safetensors.
"""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from radixroute.worker.errors import ModelError
from radixroute.worker.fingerprint import whole
from radixroute.worker.model.fields import read_fields

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
# Buffers that old checkpoints carry; they follow from the configuration.
_DERIVED = ".rotary_emb.inv_freq"
# Anything else (int8, float8) is a quantised form: its scales are elsewhere.
_DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


class Weights:
    """Tensors of one model folder, read on demand."""

    def __init__(self, folder: Path, *, dtype: torch.dtype, device: torch.device) -> None:
        self._dtype, self._device = dtype, device
        self._files = weight_files(folder)
        self._file_by_name: dict[str, Path] = {}
        self._taken: set[str] = set()
        for path in self._files:
            with _opened(path) as file:
                names = file.keys()
            if twice := sorted(self._file_by_name.keys() & set(names)):
                first = self._file_by_name[twice[0]]
                raise ModelError(f"{twice[0]} is in {first} and in {path}: fetch the model again")
            self._file_by_name.update(dict.fromkeys(names, path))

    def __contains__(self, name: str) -> bool:
        return name in self._file_by_name

    def take(self, name: str, shape: tuple[int, ...]) -> torch.Tensor:
        """The tensor in the engine's dtype and on its device. Raises `ModelError`."""
        path = self._file_by_name.get(name)
        if path is None:
            raise ModelError(f"{self._files[0].parent} has no tensor {name}: fetch the model again")
        try:
            with _opened(path) as file:
                tensor: torch.Tensor = file.get_tensor(name)
        except (SafetensorError, OSError) as error:
            raise ModelError(f"{path}: {name} cannot be read: fetch the model again") from error
        if tensor.dtype not in _DTYPES:
            raise ModelError(
                f"{path}: {name} has type {tensor.dtype}, a quantised form that this engine does "
                "not undo: use the folder of the model it was made from"
            )
        if tuple(tensor.shape) != shape:
            raise ModelError(
                f"{path}: {name} has shape {tuple(tensor.shape)}, config.json says {shape}"
            )
        self._taken.add(name)
        return tensor.to(self._device, self._dtype)

    def stacked(self, shape_by_name: Mapping[str, tuple[int, ...]]) -> torch.Tensor:
        """These tensors below one another, as one. Raises `ModelError`."""
        tensors = [self.take(name, shape) for name, shape in shape_by_name.items()]
        return tensors[0] if len(tensors) == 1 else torch.cat(tensors)

    def must_be_used_up(self, *unused: str) -> None:
        """Raises `ModelError` for a tensor nobody took: it would change what the model computes."""
        untaken = self._file_by_name.keys() - self._taken - set(unused)
        unknown = sorted(name for name in untaken if not name.endswith(_DERIVED))
        if unknown:
            raise ModelError(
                f"{self._files[0].parent} has {len(unknown)} tensors this engine does not know, "
                f"such as {unknown[0]}: it is another kind of model"
            )


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files of a folder, in name order; every one exists."""
    index = folder / INDEX
    if index.exists():
        shards = read_fields(index).record("weight_map")
        names = sorted(set(shards.texts()))
        if not names:
            raise ModelError(f"{index} names no files: fetch the model again")
        # The folder is what was chosen and checked: no file outside of it is part of the model.
        outside = [name for name in names if "/" in name or name in ("", ".", "..")]
        if outside:
            raise ModelError(f"{index} names {outside[0]!r}, which is no file of its folder")
    else:
        names = [SINGLE]
    paths = [folder / name for name in names]
    for path in paths:
        if not path.is_file():
            raise ModelError(f"{path} is missing: point `model` at a complete model folder")
    return paths


def fingerprint(folder: Path) -> str:
    """32 hex digits over the configuration and every byte of the weights. About 1 s per GB.

    Two folders that differ in one weight must not share block keys, so nothing is sampled.
    """
    return whole(folder / "config.json", weight_files(folder))


def _opened(path: Path) -> safe_open:
    try:
        return safe_open(path, framework="pt")
    except (SafetensorError, OSError) as error:
        raise ModelError(f"{path} is torn or no safetensors file: fetch the model again") from error
