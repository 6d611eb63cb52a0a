"""This machine: disks, memory, files, ports, and what a cluster that was killed left behind."""

from collections.abc import Iterator
from typing import Final
from urllib.parse import urlsplit

from radixroute.deploy.open_files import files_needed
from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence
from radixroute.events.net.bind import is_loopback

HERE: Final = "this machine"
SHM: Final = "/dev/shm"  # noqa: S108 - named, not written to
MIB: Final = 1 << 20
# A state file is small; logs of a bad day are not.
LEAST_DISK_BYTES: Final = 256 * MIB
LEAST_FILES: Final = 1000
# What Ray and vLLM map there; containers have 64 MiB by default.
LEAST_SHM_BYTES: Final = 256 * MIB
LEAST_SHM_FREE_BYTES: Final = 32 * MIB
LEAST_ZMQ: Final = (4, 3, 5)


def _disk(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.disks:
        if one.free_bytes < LEAST_DISK_BYTES:
            yield Seen(HERE, f"{one.path} has {one.free_bytes / MIB:.0f} MiB left")
        elif one.free_files is not None and one.free_files < LEAST_FILES:
            yield Seen(HERE, f"{one.path} has room for {one.free_files} more files")


def _shm(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    if machine is None or machine.shm_bytes is None or _is_router_alone(evidence):
        return
    if machine.shm_bytes < LEAST_SHM_BYTES:
        yield Seen(HERE, f"{SHM} has {machine.shm_bytes / MIB:.0f} MiB")
    elif (free := machine.shm_free_bytes) is not None and free < LEAST_SHM_FREE_BYTES:
        yield Seen(HERE, f"{SHM} has {free / MIB:.0f} MiB left")


def _is_router_alone(evidence: Evidence) -> bool:
    """Its engines are on other machines, and a router maps nothing there."""
    urls = evidence.setting("serve.engines", ()) if evidence.settings_are_its_own else ()
    hosts = [urlsplit(url.rpartition("=")[2]).hostname or "" for url in urls]
    return bool(hosts) and not any(map(is_loopback, hosts))


def _files(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    if machine is None or machine.max_files is None:
        return
    connections = evidence.setting("router.http_max_connections", 4096)
    needed = files_needed(connections)
    if machine.max_files < needed:
        what = f"{machine.max_files:,} files may be open, and {connections:,} connections may come"
        yield Seen(HERE, what, f"ulimit -Hn {needed} (LimitNOFILE= in a unit) for whoever starts "
                   "it, or a lower router.http_max_connections")  # fmt: skip


def _ports(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.ports:
        yield Seen(HERE, f"{one.setting} {one.address}: {one.why}")


def _stale(evidence: Evidence) -> Iterator[Seen]:
    for one in () if evidence.machine is None else evidence.machine.stale:
        left = f"; it left {len(one.orphans)} processes" if one.orphans else ""
        name = "" if one.name == "default" else f" --name {one.name}"
        fix = f"radixroute down{name}"
        yield Seen(HERE, f"cluster {one.name} was killed and its state file is there{left}", fix)


def _folder(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    if machine is not None and machine.folder_problem:
        yield Seen(HERE, machine.folder_problem)


def _memory(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    if not _is_own_engine(evidence) or machine is None or not machine.memory_bytes:
        return
    n, pool = evidence.setting("cluster.workers", 1), evidence.setting("worker.kv_memory", 0)
    if evidence.setting("worker.device", "auto") != "cuda" and n * pool > machine.memory_bytes:
        what = f"{n} KV pools of {pool / MIB:,.0f} MiB, and {machine.memory_bytes / MIB:,.0f} MiB"
        yield Seen(HERE, f"{what} of memory")


def _threads(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    if not _is_own_engine(evidence) or machine is None or not machine.n_cpus:
        return
    n, threads = evidence.setting("cluster.workers", 1), evidence.setting("worker.torch_threads", 1)
    if threads > 1 and n * threads > machine.n_cpus:
        yield Seen(HERE, f"{n} workers with {threads} threads each on {machine.n_cpus} cores")


def _is_own_engine(evidence: Evidence) -> bool:
    """Of a cluster that runs here: what is merely configured starts nothing."""
    is_ours = evidence.setting("cluster.engine", "torch") == "torch"
    is_up = not evidence.setting("serve.engines", ())
    return evidence.settings_are_its_own and is_ours and is_up


def _zmq(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    if machine is not None and (0, 0, 0) < machine.zmq_version < LEAST_ZMQ:
        yield Seen(HERE, f"libzmq is {'.'.join(map(str, machine.zmq_version))}")


def _edited(evidence: Evidence) -> Iterator[Seen]:
    machine = evidence.machine
    for one in () if machine is None else machine.edited:
        what = f"{one.setting} is {one.written} in {one.path}, and {one.running} where it runs"
        yield Seen("router", what)


MACHINE_CHECKS: Final = (
    Check(
        "settings_edited",
        Level.WARNING,
        "settings were edited after the start: what runs has others",
        "a file is read at a start alone: what was meant to change has not",
        "restart it (`radixroute down`, then `up` or `serve` again), or put the file back; what is "
        "typed or in the environment wins over the file",
        _edited,
    ),
    Check(
        "port_taken",
        Level.ERROR,
        "a port is taken",
        "the router cannot start there",
        "end what listens there, or choose another: --port, --http-port, router.metrics_port; 0 "
        "takes a free one",
        _ports,
    ),
    Check(
        "state_stale",
        Level.WARNING,
        "a cluster was killed and left its state behind",
        "commands look for a router that is gone, and processes may still hold GPUs and ports",
        "radixroute down",
        _stale,
    ),
    Check(
        "folder_unsafe",
        Level.ERROR,
        "the folder for state files cannot be used",
        "`up` and `serve` do not start, and other commands do not find what runs",
        "chmod 700 on it, or name another with cluster.runtime_dir",
        _folder,
    ),
    Check(
        "disk_full",
        Level.ERROR,
        "a disk is full",
        "logs end, and no cluster can write its state",
        "make room there, or name another folder with cluster.runtime_dir",
        _disk,
    ),
    Check(
        "shm_small",
        Level.WARNING,
        f"{SHM} is small",
        "Ray and engines of several processes share memory there, and end when it is full",
        "docker run --shm-size=8g (an emptyDir with medium: Memory on Kubernetes)",
        _shm,
    ),
    Check(
        "files_limited",
        Level.WARNING,
        "fewer files may be open than connections may come",
        "connections are refused one by one once they are used up",
        "ulimit -Hn 8192 for whoever starts it: it takes of its hard limit what it needs",
        _files,
    ),
    Check(
        "memory_short",
        Level.ERROR,
        "KV pools have more memory than there is",
        "workers are killed or swap once their caches fill",
        "lower --kv-memory (worker.kv_memory) or --workers",
        _memory,
    ),
    Check(
        "threads_crowded",
        Level.WARNING,
        "workers have more threads than there are cores",
        "they take the cores from one another and from the router: all become slow",
        "lower worker.torch_threads or --workers",
        _threads,
    ),
    Check(
        "zmq_old",
        Level.WARNING,
        "libzmq is old",
        "releases before 4.3.5 have known holes for whoever can connect",
        "pip install --upgrade pyzmq",
        _zmq,
    ),
)
