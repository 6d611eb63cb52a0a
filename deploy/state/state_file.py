"""State file: where a daemon's cluster is written down, for `down` and for every other command.

One JSON file per cluster name in a folder of the user's own (0700; files 0600). A file whose
process is gone is stale: it says what a daemon that was killed may have left. Holds no secrets.
"""

import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from radixroute.deploy.errors import ConfigError
from radixroute.deploy.process_tree import ProcessId


@dataclass(frozen=True, slots=True)
class ClusterState:
    """A running cluster. `process` is None when it lives in a Ray that somebody else runs."""

    name: str
    router_address: str  # host:port
    process: ProcessId | None
    log_path: str = ""
    ray_address: str = ""  # of the Ray joined; empty: one of its own
    family: tuple[ProcessId, ...] = ()  # everything below `process` when it had started
    temp_dir: str = ""  # Ray's
    run_dir: str = ""  # the logs of this life; they stay
    # What it was started with, by section.field, for whoever looks for what is wrong with it.
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def is_live(self) -> bool:
        return self.process is not None and self.process.is_alive


def runtime_dir(configured: str) -> Path:
    """The folder for state files and logs, made if absent. Raises `ConfigError` if it is unsafe."""
    folder = runtime_path(configured)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    problem = unsafe(folder)
    if problem:
        raise ConfigError(problem)
    return folder


def runtime_path(configured: str) -> Path:
    """The same, whether it is there or not."""
    # /tmp rather than $XDG_RUNTIME_DIR: that is absent over plain ssh, where `ray up` runs us.
    return Path(configured or f"{tempfile.gettempdir()}/radixroute-{os.getuid()}")


def unsafe(folder: Path) -> str:
    """Why a folder that is there cannot be used, and what to do; empty: it can."""
    found = folder.lstat()
    if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o077:
        return ""
    return (
        f"{folder} must be a directory of your own with mode 0700: "
        "fix it, or name another with runtime_dir"
    )


def write_state(folder: Path, state: ClusterState) -> None:
    """Replaces the file in one step: a reader sees the old one or the new one. Raises `ConfigError`
    where it cannot be written; nothing is left of the attempt."""
    path = _path(folder, state.name)
    descriptor, fresh = tempfile.mkstemp(dir=folder, prefix=f".{state.name}.")  # mode 0600
    try:
        with os.fdopen(descriptor, "w") as file:
            json.dump(asdict(state), file, indent=2)
        Path(fresh).replace(path)
    except OSError as error:
        Path(fresh).unlink(missing_ok=True)
        raise ConfigError(
            f"cannot write {path}: {error.strerror}; make room there, or name another folder with "
            "runtime_dir"
        ) from error


def read_state(folder: Path, name: str) -> ClusterState | None:
    """What the file of that name says, live or stale; a torn file counts as none."""
    try:
        return _read(_path(folder, name))
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):
        remove_state(folder, name)
        return None


def written_s(folder: Path, name: str) -> float | None:
    """When the file of that name was written, Unix time; None: there is none."""
    try:
        return _path(folder, name).stat().st_mtime
    except OSError:
        return None


def states_in(folder: Path) -> Iterator[ClusterState]:
    """Of every cluster, live or stale, by name. Changes nothing; what cannot be read is none."""
    for path in sorted(folder.glob("*.json")):
        try:
            yield _read(path)
        except (OSError, ValueError, TypeError, KeyError, AttributeError):
            continue


def remove_state(folder: Path, name: str) -> None:
    _path(folder, name).unlink(missing_ok=True)


def _read(path: Path) -> ClusterState:
    record = json.loads(path.read_text())
    process = ProcessId(**record.pop("process"))
    family = tuple(ProcessId(**member) for member in record.pop("family"))
    return ClusterState(process=process, family=family, **record)


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"
