"""Evidence: what was seen of a fleet, of engines and of this machine, as frozen records.

What routers and workers say stays as they said it, as messages of the wire. None or empty: it was
not found out, and no check takes that for a fault. Holds no prompt, key or secret.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from radixroute.doctor.page import Page
from radixroute.doctor.reuse import Reuse, reuse_of
from radixroute.protos import radixroute_pb2 as pb
from radixroute.worker.companions.join.examination import Examination

WorkerId = str


@dataclass(frozen=True, slots=True)
class Listener:
    """One port that something of the fleet listens on."""

    what: str  # as one calls it
    kind: str  # grpc, http, metrics, worker, compat
    address: str  # host:port, as it is known
    is_wide: bool | None = None  # other machines can connect to it
    speaks_tls: bool | None = None
    wants_key: bool | None = None


@dataclass(frozen=True, slots=True)
class Look:
    """One moment of a router."""

    info: pb.RouterInfoResponse = field(default_factory=pb.RouterInfoResponse)
    workers: tuple[pb.WorkerStatus, ...] = ()
    hits: pb.HitRatesResponse = field(default_factory=pb.HitRatesResponse)
    page: Page = field(default_factory=Page)

    def worker(self, worker_id: WorkerId) -> pb.WorkerStatus | None:
        return next((one for one in self.workers if one.worker_id == worker_id), None)


@dataclass(frozen=True)
class RouterSeen:
    """A router and what it says of its workers, twice."""

    address: str
    before: Look
    now: Look
    seconds: float = 0.0  # between the two
    age_s: float | None = None  # since its process began; None: not found out
    log: tuple[pb.EndedRequest, ...] = ()
    told: Mapping[WorkerId, pb.GetInfoResponse] = field(default_factory=dict)  # by workers
    pages: Mapping[WorkerId, Page] = field(default_factory=dict)  # of workers
    unreached: tuple[WorkerId, ...] = ()  # workers whose address answers nothing from here
    listeners: tuple[Listener, ...] = ()

    @cached_property
    def reuse(self) -> Reuse:
        """What its log says of caches."""
        return reuse_of(self.log, [one.worker_id for one in self.live])

    @property
    def live(self) -> list[pb.WorkerStatus]:
        return [one for one in self.now.workers if one.state == "live"]

    def rose(self, counter: str) -> int:
        """Between the two looks."""
        return max(0, self.count(counter) - int(self.before.info.counters.get(counter, 0)))

    def count(self, counter: str) -> int:
        return int(self.now.info.counters.get(counter, 0))


@dataclass(frozen=True, slots=True)
class EngineSeen:
    """An engine that was examined."""

    examination: Examination
    # Whether its event port takes connections from other machines. None: not found out.
    events_are_wide: bool | None = None
    end: str = ""  # host:port/path of its URL, the host as an IP address
    event_ends: tuple[str, ...] = ()  # the same of its event endpoints
    # Its HTTP server takes connections from other machines and answers without a key.
    is_open: bool | None = None
    orphans: tuple[int, ...] = ()  # cores whose server is gone, by pid, where it answers nothing

    @property
    def url(self) -> str:
        return self.examination.url


@dataclass(frozen=True, slots=True)
class DiskSeen:
    """A file system that something of the fleet writes to."""

    path: str
    free_bytes: int
    free_files: int | None = None  # None: it has no such limit


@dataclass(frozen=True, slots=True)
class FileSeen:
    """A file with a secret."""

    setting: str
    path: str
    mode: int  # its permission bits
    exists: bool = True


@dataclass(frozen=True, slots=True)
class UnusableFile:
    """A file that a router or worker which starts now would refuse; one that runs keeps what it had
    read."""

    setting: str
    problem: str  # with its path, in the words of who refuses it


@dataclass(frozen=True, slots=True)
class EditedSetting:
    """One that a settings file has otherwise than what runs, since that started. No secret."""

    setting: str
    path: str  # of the file
    written: str
    running: str


@dataclass(frozen=True, slots=True)
class PortSeen:
    """A port that something of the fleet would listen on, and cannot."""

    setting: str
    address: str
    why: str


@dataclass(frozen=True, slots=True)
class StaleState:
    """A cluster of this machine that was killed: its file is still there."""

    name: str
    orphans: tuple[int, ...] = ()  # processes it left, by pid


@dataclass(frozen=True, slots=True)
class MachineSeen:
    """This machine."""

    version: str  # of radixroute, here
    n_cpus: int = 0
    memory_bytes: int = 0  # what processes may have together
    shm_bytes: int | None = None  # of /dev/shm
    shm_free_bytes: int | None = None
    # That the router's process may open, else one that is started here.
    max_files: int | None = None
    disks: tuple[DiskSeen, ...] = ()
    secrets: tuple[FileSeen, ...] = ()
    unusable: tuple[UnusableFile, ...] = ()
    edited: tuple[EditedSetting, ...] = ()
    ports: tuple[PortSeen, ...] = ()
    stale: tuple[StaleState, ...] = ()
    folder_problem: str = ""  # of the folder for state files
    zmq_version: tuple[int, int, int] = (0, 0, 0)


@dataclass(frozen=True, slots=True)
class Evidence:
    """All of it."""

    router: RouterSeen | None = None
    engines: tuple[EngineSeen, ...] = ()
    machine: MachineSeen | None = None
    # As the running cluster has them where it says so, else as they are configured here; by
    # section.field, secrets left out.
    settings: Mapping[str, Any] = field(default_factory=dict)
    settings_are_its_own: bool = False  # the running cluster said so
    certificate_problem: str = ""  # of the one that the router shows
    certificate_left_s: float | None = None  # until it ends; None: not found out

    def setting(self, key: str, default: Any) -> Any:
        return self.settings.get(key, default)
