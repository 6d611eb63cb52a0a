"""Regenerates the stubs of `protos/` with the pinned grpcio-tools; `--check` compares instead."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
STUBS = ("radixroute_pb2.py", "radixroute_pb2.pyi", "radixroute_pb2_grpc.py")


def generate(out: Path) -> None:
    """Write the stubs under `out/radixroute/protos`; the prefix makes their imports absolute."""
    protoc_gen_mypy = Path(sys.executable).with_name("protoc-gen-mypy")
    subprocess.run(
        [
            sys.executable,
            "-m",
            "grpc_tools.protoc",
            "-Iradixroute/protos=protos",
            f"--plugin=protoc-gen-mypy={protoc_gen_mypy}",
            f"--python_out={out}",
            f"--mypy_out={out}",
            f"--grpc_python_out={out}",
            "radixroute/protos/radixroute.proto",
        ],
        cwd=ROOT,
        check=True,
    )


def main() -> int:
    with tempfile.TemporaryDirectory() as tmp:
        generate(Path(tmp))
        for name in STUBS:
            fresh, committed = Path(tmp, "radixroute", "protos", name), ROOT / "protos" / name
            if "--check" not in sys.argv:
                shutil.copyfile(fresh, committed)
            elif not committed.exists() or fresh.read_bytes() != committed.read_bytes():
                print(f"{committed.relative_to(ROOT)} is out of date: run `make proto`")
                return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
