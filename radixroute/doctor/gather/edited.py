"""Settings that were edited after a cluster started: its file says one thing, and it runs another.

Only where that is the file it was started with, as far as can be seen, and was written since.
"""

import json
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from radixroute.config import PREFIX, load
from radixroute.deploy.settings import without_secrets
from radixroute.deploy.state.state_file import ClusterState, written_s
from radixroute.doctor.evidence import EditedSetting
from radixroute.errors import BadConfig

_HERE: Final = Path()


def edited_of(
    cluster: ClusterState | None, folder: Path, config_path: Path | None
) -> Iterator[EditedSetting]:
    """`folder`: of its state, which it wrote once it had started. What is typed or in the
    environment wins over a file: the latter is left out, the former nobody knows any more."""
    if cluster is None or not cluster.settings or config_path is None:
        return
    started_s = written_s(folder, cluster.name)
    try:
        is_newer = started_s is not None and config_path.stat().st_mtime > started_s
        written = load(path=config_path, environ={}) if is_newer else None
    except (OSError, BadConfig):
        return
    if written is None or not _is_its_file(cluster, config_path):
        return
    values, of_environment = without_secrets(written.cluster), _of_environment(cluster)
    for key in sorted(written.sources.keys() - of_environment):
        if key in values and key in cluster.settings:
            ours, theirs = _plain(values[key]), _plain(cluster.settings[key])
            if ours != theirs:
                yield EditedSetting(key, str(config_path), str(ours), str(theirs))


def _is_its_file(cluster: ClusterState, path: Path) -> bool:
    """Somebody named it, or it lies where the cluster was started."""
    if path.parent != _HERE:
        return True
    with suppress(OSError):
        if cluster.process is not None:
            return Path(f"/proc/{cluster.process.pid}/cwd").samefile(_HERE)
    return False


def _of_environment(cluster: ClusterState) -> set[str]:
    """Settings that its environment has."""
    if cluster.process is None:
        return set()
    try:
        entries = Path(f"/proc/{cluster.process.pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return set()
    names = (entry.partition(b"=")[0].decode(errors="replace") for entry in entries)
    keys = (name.removeprefix(PREFIX).lower() for name in names if name.startswith(PREFIX))
    return {key.replace("_", ".", 1) for key in keys}


def _plain(value: Any) -> object:
    """As a file of state has it."""
    found: object = json.loads(json.dumps(value, default=str))
    return found
