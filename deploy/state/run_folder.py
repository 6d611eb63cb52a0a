"""Run folder: the logs of one life of a cluster, kept after it, the last few of each name.

Owns where they lie and which go: `FOLDER/logs/NAME/TIME-PID/` has `daemon.log`, a file for each
actor, and under `ray/` what Ray and the engines wrote to Ray's own folder, which ends with it.
"""

import os
import shutil
import time
from pathlib import Path

KEPT_RUNS = 5  # of each cluster name, the newest
# Of each of Ray's files the end is kept; theirs may have 100 MB and say the same for ever.
KEPT_BYTES = 4 << 20


def new_run(folder: Path, name: str) -> Path:
    """A fresh folder, mode 0700; the oldest of that name goes where there are enough."""
    runs = folder / "logs" / name
    runs.mkdir(mode=0o700, parents=True, exist_ok=True)
    run = runs / f"{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}"
    run.mkdir(mode=0o700, exist_ok=True)
    for old in sorted(path for path in runs.iterdir() if path.is_dir())[:-KEPT_RUNS]:
        shutil.rmtree(old, ignore_errors=True)
    return run


def daemon_log(run: Path) -> Path:
    return run / "daemon.log"


def actor_log(run: Path, actor: str) -> Path:
    return run / f"{actor}.log"


def keep_ray_logs(temp_dir: str, run: Path) -> None:
    """Copies what Ray has logged; what cannot be read is left out. Call it before that goes."""
    source = Path(temp_dir) / "session_latest" / "logs"
    for path in sorted(source.rglob("*")):
        kept = run / "ray" / path.relative_to(source)
        try:
            if path.is_file() and path.stat().st_size:
                kept.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                _copy_end(path, kept)
        except OSError:
            continue  # it went meanwhile, or is no file of ours: the others count


def _copy_end(path: Path, kept: Path) -> None:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - KEPT_BYTES))
        kept.write_bytes(file.read(KEPT_BYTES))
