"""Certificates for tests, from a CA of their own; made once a process."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from radixroute.trust.authority import Authority, Role, Signed
from radixroute.trust.cert_folder import CertFolder, Wanted

LOOPBACK = ("127.0.0.1", "localhost")
_FOLDERS: list[Any] = []  # kept until the process ends


@dataclass(frozen=True, slots=True)
class Cluster:
    """One CA's files."""

    folder: CertFolder

    def path(self, name: str) -> str:
        return str(self.folder.path / name)

    @property
    def ca(self) -> str:
        return self.path("ca.pem")

    @property
    def doors(self) -> dict[str, Any]:
        """Settings of a router: TLS at its doors."""
        return {
            "tls_cert_file": self.path("router.pem"),
            "tls_key_file": self.path("router-key.pem"),
        }

    @property
    def router(self) -> dict[str, Any]:
        """And towards its workers."""
        return self.doors | {"link_ca_file": self.ca}

    @property
    def link(self) -> dict[str, Any]:
        """Settings of a router: TLS towards its workers, doors in the clear."""
        return {
            "link_ca_file": self.ca,
            "link_cert_file": self.path("router.pem"),
            "link_key_file": self.path("router-key.pem"),
        }

    @property
    def worker(self) -> dict[str, Any]:
        """Settings of a worker."""
        return {
            "tls_cert_file": self.path("worker.pem"),
            "tls_key_file": self.path("worker-key.pem"),
            "tls_ca_file": self.ca,
        }

    def authority(self) -> Authority:
        folder = self.folder
        return Authority.read(Signed(folder.cert("ca").read_bytes(), folder.key("ca").read_bytes()))

    def issue(
        self,
        role: Role,
        path: Path,
        names: Sequence[str] = LOOPBACK,
        *,
        ended: bool = False,
    ) -> tuple[str, str]:
        """Another certificate of this CA: its file and its key's. `ended`: yesterday."""
        now = datetime.now(UTC) - timedelta(days=2 if ended else 0)
        signed = self.authority().issue(role, names, 1, now)
        path.mkdir(exist_ok=True)
        cert, key = path / f"{role.value}.pem", path / f"{role.value}-key.pem"
        cert.write_bytes(signed.cert)
        key.write_bytes(signed.key)
        return str(cert), str(key)


@cache
def cluster(name: str = "") -> Cluster:
    """By name: two names are two CAs."""
    holder = TemporaryDirectory(prefix="rr-certs-", ignore_cleanup_errors=True)
    _FOLDERS.append(holder)
    return made_in(Path(holder.name) / "certs")


def made_in(path: Path) -> Cluster:
    """A fresh one, in this folder."""
    folder = CertFolder(path)
    wanted = Wanted(dict.fromkeys(Role, LOOPBACK), days=2)
    folder.begin(wanted, datetime.now(UTC), overwrite=False)
    return Cluster(folder)
