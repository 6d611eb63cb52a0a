"""This machine: what processes may have of it, and what its clusters left and were started with."""

import os
import resource
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import zmq

from radixroute import __version__
from radixroute.deploy.state.state_file import ClusterState, runtime_path, states_in, unsafe
from radixroute.doctor.evidence import DiskSeen, MachineSeen, PortSeen, StaleState
from radixroute.doctor.gather.edited import edited_of
from radixroute.doctor.gather.files import secrets_of, unusable_of
from radixroute.doctor.kinds.machine import SHM
from radixroute.events.net.bind import why_not_free


def machine_seen(
    settings: Mapping[str, Any],
    cluster: ClusterState | None,
    *,
    config_path: Path | None,
    ports: Sequence[tuple[str, str, int]],
) -> MachineSeen:
    """`cluster`: the one that is looked at, where it runs here. `ports`: setting, host and port of
    what should be free."""
    folder = runtime_path(str(settings.get("cluster.runtime_dir", "")))
    problem = unsafe(folder) if folder.exists() else ""
    states = [] if problem else list(states_in(folder))
    shm = _file_system(SHM)
    return MachineSeen(
        version=__version__,
        n_cpus=len(os.sched_getaffinity(0)),
        memory_bytes=_memory_bytes(),
        shm_bytes=None if shm is None else shm.f_blocks * shm.f_frsize,
        shm_free_bytes=None if shm is None else shm.f_bavail * shm.f_frsize,
        max_files=_max_files(cluster),
        disks=tuple(_disks([folder, Path(tempfile.gettempdir())])),
        secrets=tuple(secrets_of(settings, cluster, config_path)),
        unusable=tuple(unusable_of(settings, cluster)),
        edited=tuple(edited_of(cluster, folder, config_path)),
        ports=tuple(_taken(ports)),
        stale=tuple(_stale(states)),
        folder_problem=problem,
        zmq_version=_zmq_version(),
    )


def _file_system(path: str) -> os.statvfs_result | None:
    try:
        return os.statvfs(path)
    except OSError:
        return None


def _disks(paths: Sequence[Path]) -> Iterator[DiskSeen]:
    """Each file system once."""
    known = set()
    for wanted in paths:
        path = next((one for one in (wanted, *wanted.parents) if one.exists()), None)
        found = None if path is None else _file_system(str(path))
        if path is None or found is None or (device := path.stat().st_dev) in known:
            continue
        known.add(device)
        files = found.f_favail if found.f_files else None
        yield DiskSeen(str(path), found.f_bavail * found.f_frsize, files)


def _memory_bytes() -> int:
    """The machine's, or the least that a group of processes may have."""
    most = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    for path in ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"):
        with suppress(OSError, ValueError):
            most = min(most, int(Path(path).read_text()))
    return most


def _max_files(cluster: ClusterState | None) -> int | None:
    """That the router may open; where none runs here, whatever this shell would start, which takes
    what it needs up to the hard limit. None: not found out, or without a limit."""
    if cluster is None or cluster.process is None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        return None if hard == resource.RLIM_INFINITY else hard
    try:
        lines = Path(f"/proc/{cluster.process.pid}/limits").read_text().splitlines()
    except OSError:
        return None
    soft = next((line.split()[3] for line in lines if line.startswith("Max open files")), "")
    return int(soft) if soft.isdecimal() else None


def _taken(ports: Sequence[tuple[str, str, int]]) -> Iterator[PortSeen]:
    for setting, host, port in ports:
        why = why_not_free(host, port) if port else None
        if why is not None:
            yield PortSeen(setting, f"{host}:{port}", why)


def _stale(states: Sequence[ClusterState]) -> Iterator[StaleState]:
    for state in states:
        if state.process is not None and not state.process.is_alive:
            left = tuple(process.pid for process in state.family if process.is_alive)
            yield StaleState(state.name, left)


def _zmq_version() -> tuple[int, int, int]:
    major, minor, patch = zmq.zmq_version_info()
    return int(major), int(minor), int(patch)
