"""Cert folder: what `radixroute certs` writes, and reads again when it renews.

Owns the files' names and modes. Each file appears whole or not at all: a process that reads them
again meanwhile never finds half of one.
"""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from radixroute.trust.authority import Authority, Role, Signed, names_of
from radixroute.trust.errors import CertsError

CA = "ca"
# Of the CA: ten years. It is what every machine has, so what is hard to replace.
CA_DAYS = 3650


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be made. No `names` of a role: those that its certificate had before."""

    names: Mapping[Role, Sequence[str]]
    days: int


class CertFolder:
    """One folder."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def cert(self, name: str) -> Path:
        """`name`: `ca`, or of a role."""
        return self.path / f"{name}.pem"

    def key(self, name: str) -> Path:
        return self.path / f"{name}-key.pem"

    def begin(self, wanted: Wanted, now: datetime, *, overwrite: bool) -> None:
        """A CA, and what it signs. Raises CertsError; nothing is written then."""
        names = (CA, *(role.value for role in Role))
        there = [one for name in names for one in (self.cert(name), self.key(name)) if one.exists()]
        if there and not overwrite:
            raise CertsError(
                f"{there[0]} is there already: --renew makes new certificates under the same CA, "
                "--force a new CA, which every machine then needs"
            )
        authority = Authority.new(max(CA_DAYS, wanted.days + 1), now)
        made = self._issue(authority, wanted, now)
        self._write({CA: authority.signed} | made)

    def renew(self, wanted: Wanted, now: datetime) -> None:
        """Certificates anew, under the CA that is there. Raises CertsError; nothing is written
        then."""
        authority = Authority.read(Signed(_read(self.cert(CA)), _read(self.key(CA))))
        self._write(self._issue(authority, wanted, now))

    def names(self, role: Role) -> tuple[str, ...]:
        """Of the certificate that is there."""
        return names_of(_read(self.cert(role.value)))

    def _issue(self, authority: Authority, wanted: Wanted, now: datetime) -> dict[str, Signed]:
        return {
            role.value: authority.issue(
                role, wanted.names.get(role) or self.names(role), wanted.days, now
            )
            for role in Role
        }

    def _write(self, made: Mapping[str, Signed]) -> None:
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for name, signed in made.items():
                _replace(self.key(name), signed.key, 0o600)
                _replace(self.cert(name), signed.cert, 0o644)
        except OSError as error:
            raise CertsError(f"cannot write {error.filename}: {error.strerror}") from None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise CertsError(f"{path}: {error.strerror}") from None


def _replace(path: Path, data: bytes, mode: int) -> None:
    fresh = path.with_name(path.name + ".new")
    fresh.unlink(missing_ok=True)
    descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
    with os.fdopen(descriptor, "wb") as file:
        os.fchmod(file.fileno(), mode)  # whatever the umask says
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    fresh.replace(path)
