"""Files that a fleet is started with: who may read those with secrets, and which cannot be used.

Each is looked at where its process sees it, and read by the parser of whoever reads it: a file that
was overwritten while a router runs is refused there in the same words. What we may not read, and
whoever was started with it perhaps may, is left out. Holds nothing of what such a file holds.
"""

import ssl
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from radixroute.deploy.state.state_file import ClusterState
from radixroute.doctor.evidence import FileSeen, UnusableFile
from radixroute.doctor.kinds.safety import KEYS_FILE
from radixroute.router.api.guard.keys import Keys
from radixroute.router.errors import BadSetting
from radixroute.trust.errors import BadPem
from radixroute.trust.identity import Identity
from radixroute.trust.pem_files import PemFiles

_COMPANION_CA: Final = "companion.ca_file"
_DOORS: Final = ("router.tls_cert_file", "router.tls_key_file", "")
_LINKS: Final = ("router.link_cert_file", "router.link_key_file", "router.link_ca_file")
_WORKERS: Final = ("worker.tls_cert_file", "worker.tls_key_file", "worker.tls_ca_file")
SECRET_FILES: Final = (
    *(KEYS_FILE, _DOORS[1], _LINKS[1]),
    *(_WORKERS[1], "companion.api_key_file"),
)
# All settings that name files, as whoever was started with them sees them.
_PATHS: Final = (
    *(KEYS_FILE, *_DOORS[:2], *_LINKS, *_WORKERS),
    *("companion.api_key_file", _COMPANION_CA, "companion.model"),
)
# In a settings file; a file without them may be read by all.
_SECRET_KEYS: Final = ("cluster_secret", "api_key")


def _where_it_is(path: str, cluster: ClusterState | None) -> Path:
    """As the process that was started with it sees it."""
    given = Path(path)
    if given.is_absolute() or cluster is None or cluster.process is None:
        return given
    with suppress(OSError):
        return Path(f"/proc/{cluster.process.pid}/cwd").readlink() / given
    return given


def paths_of(settings: Mapping[str, Any], cluster: ClusterState | None) -> dict[str, str]:
    """By setting, of those that name a file."""
    return {
        setting: str(_where_it_is(str(given), cluster))
        for setting in _PATHS
        if (given := settings.get(setting))
    }


# -- who may read them


def secrets_of(
    settings: Mapping[str, Any], cluster: ClusterState | None, config_path: Path | None
) -> Iterator[FileSeen]:
    """`config_path`: of the settings file, which may hold some, too."""
    paths = paths_of(settings, cluster)
    for setting in SECRET_FILES:
        if setting in paths:
            yield _file(setting, Path(paths[setting]))
    if config_path is not None and _has_secrets(config_path):
        yield _file("the settings file", config_path)


def _file(setting: str, path: Path) -> FileSeen:
    try:
        return FileSeen(setting, str(path), stat.S_IMODE(path.stat().st_mode))
    except FileNotFoundError:
        return FileSeen(setting, str(path), 0, exists=False)
    except OSError:
        return FileSeen(setting, str(path), 0)  # who may not look cannot say


def _has_secrets(path: Path) -> bool:
    try:
        tables = tomllib.loads(path.read_text()).values()
    except (OSError, ValueError):
        return False
    return any(one.get(key) for one in tables if isinstance(one, dict) for key in _SECRET_KEYS)


# -- which cannot be used


def unusable_of(
    settings: Mapping[str, Any], cluster: ClusterState | None
) -> Iterator[UnusableFile]:
    """Of those that are there: a secret that is not is told by `secrets_of`. The state of a cluster
    is its user's alone, so what we may not read there it may not, either."""
    paths = paths_of(settings, cluster)
    out_of_sight = {
        setting
        for setting, path in paths.items()
        if (cluster is None and _is_denied(path)) or (setting in SECRET_FILES and _is_missing(path))
    }
    if KEYS_FILE in paths.keys() - out_of_sight:
        yield from _keys(paths[KEYS_FILE])
    known: set[UnusableFile] = set()
    for names in _identities(paths):
        if not out_of_sight.intersection(names):
            known.update(_identity(paths, names))
    if _COMPANION_CA in paths.keys() - out_of_sight:
        known.update(_believed(paths[_COMPANION_CA]))
    yield from sorted(known, key=lambda one: (one.setting, one.problem))


def _is_denied(path: str) -> bool:
    try:
        with Path(path).open("rb"):
            return False
    except PermissionError:
        return True
    except OSError:
        return False


def _is_missing(path: str) -> bool:
    try:
        Path(path).stat()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return False


def _keys(path: str) -> Iterator[UnusableFile]:
    try:
        Keys(Path(path))
    except BadSetting as error:
        yield UnusableFile(KEYS_FILE, str(error).removeprefix(f"{KEYS_FILE}: "))


def _identities(paths: Mapping[str, str]) -> Iterator[tuple[str, str, str]]:
    """Which settings go together."""
    if _DOORS[0] in paths:
        yield _DOORS
    if _LINKS[2] in paths:
        yield _LINKS if _LINKS[0] in paths else (*_DOORS[:2], _LINKS[2])
    if _WORKERS[0] in paths:
        yield _WORKERS


def _identity(paths: Mapping[str, str], names: tuple[str, str, str]) -> Iterator[UnusableFile]:
    cert, key, ca = (paths.get(name, "") for name in names)
    try:
        Identity(PemFiles(cert, key, ca, names))
    except BadPem as error:
        yield UnusableFile(error.name, error.problem)


def _believed(path: str) -> Iterator[UnusableFile]:
    try:
        ssl.create_default_context(cafile=path)
    except ssl.SSLError:
        yield UnusableFile(_COMPANION_CA, f"{path}: is no PEM")
    except OSError as error:
        yield UnusableFile(_COMPANION_CA, f"{path}: {error.strerror}")
