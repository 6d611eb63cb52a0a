"""Model folder: where a model's files are; a Hugging Face folder as it is, a GGUF converted once.

Owns the conversion cache: a folder named by the file's content, filled beside its place and moved
in whole, so that a torn conversion is never taken for a model. No torch. Called by the runner, by
`WorkerService` for the tokenizer and by the demo.
"""

import hashlib
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from radixroute.worker.errors import ModelError


def model_folder(model: Path, progress: Callable[[str], None] = lambda text: None) -> Path:
    """The folder of Hugging Face files for `model`. Raises `ModelError` where there is none."""
    if model.is_dir():
        return model
    if not model.exists():
        raise ModelError(
            f"no model at {model}: give a Hugging Face folder or a .gguf file (`model` setting)"
        )
    if model.suffix != ".gguf":
        raise ModelError(f"{model} is neither a folder nor a .gguf file")
    progress("reading the GGUF file")
    try:
        with model.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b").hexdigest()[:16]
    except OSError as error:
        raise ModelError(f"{model} cannot be read: {error.strerror}") from error
    return converted(model, _cache() / f"{model.stem}-{content}", progress)


def converted(gguf: Path, folder: Path, progress: Callable[[str], None]) -> Path:
    """`folder`, filled from `gguf` unless it is there already. Safe to run twice at once."""
    if folder.is_dir():
        return folder
    # Here: gguf and safetensors belong to the worker extra, and most starts need neither.
    from radixroute.worker.model.gguf_file import convert

    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        scratch = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
        try:
            convert(gguf, scratch, progress)
            _move_in(scratch, folder)
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
    except OSError as error:
        raise ModelError(
            f"{gguf} cannot be converted into {folder.parent}: {error.strerror}; "
            "make room there or set XDG_CACHE_HOME"
        ) from error
    return folder


def _move_in(scratch: Path, folder: Path) -> None:
    scratch.chmod(0o755)
    for file in scratch.iterdir():
        file.chmod(0o644)
    try:
        scratch.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        # Another process converted the same file meanwhile: its folder is as good as ours.


def _cache() -> Path:
    home = os.environ.get("XDG_CACHE_HOME") or str(Path("~/.cache").expanduser())
    return Path(home) / "radixroute" / "models"
