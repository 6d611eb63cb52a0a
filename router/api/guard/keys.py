"""Keys: who may ask, by bearer keys from a file that is read again when it changes.

Owns what was read last. One `name:key` a line; a name may have several keys, so that one can be
replaced without a moment in which neither works. The name is the tenant whose requests come with
it. Keys are kept as digests under a key of this process: none of them can be read out of it, and
comparing takes as long whatever is compared.
"""

import hashlib
import logging
import secrets
from pathlib import Path
from typing import Final

from radixroute.request.limits import MAX_TENANT_LEN
from radixroute.router.errors import BadSetting

_log = logging.getLogger(__name__)

MIN_KEY_LEN: Final = 16  # what is shorter can be guessed
MAX_KEY_LEN: Final = 512
MAX_FILE_BYTES: Final = 1 << 20
BEARER: Final = "bearer "
SETTING: Final = "keys_file"


class Keys:
    """Of one file."""

    def __init__(self, path: Path) -> None:
        """Raises BadSetting: a router does not start with keys that it cannot read."""
        self._path = path
        self._secret = secrets.token_bytes(32)
        self._seen: object = None
        try:
            self._seen = self._look()
            self._names = self._read()
        except (OSError, ValueError) as error:
            raise BadSetting(SETTING, f"{path}: {_words(error)}") from None

    def name_of(self, authorization: str) -> str | None:
        """Whose key this header has. None: nobody's."""
        if authorization[: len(BEARER)].lower() != BEARER:
            return None
        key = authorization[len(BEARER) :].strip()
        if not MIN_KEY_LEN <= len(key) <= MAX_KEY_LEN:
            return None
        return self._names.get(self._digest(key))

    def refresh(self) -> None:
        """Reads the file if it changed. One that cannot be read leaves the keys as they were."""
        try:
            seen = self._look()
            if seen == self._seen:
                return
            self._seen = seen
            self._names = self._read()
            _log.info("keys of %d names are in force", len(set(self._names.values())))
        except (OSError, ValueError) as error:
            if self._seen is not None:  # once, not with every look
                _log.error("%s stays as it was: %s", SETTING, _words(error))
            if isinstance(error, OSError):
                self._seen = None

    def _look(self) -> object:
        seen = self._path.stat()
        return seen.st_mtime_ns, seen.st_size, seen.st_ino

    def _read(self) -> dict[bytes, str]:
        with self._path.open(encoding="utf-8") as file:
            text = file.read(MAX_FILE_BYTES + 1)
        if len(text) > MAX_FILE_BYTES:
            raise ValueError(f"has more than {MAX_FILE_BYTES} bytes")
        names: dict[bytes, str] = {}
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip() or line.startswith("#"):
                continue
            name, _, key = (part.strip() for part in line.partition(":"))
            if not (0 < len(name) <= MAX_TENANT_LEN and MIN_KEY_LEN <= len(key) <= MAX_KEY_LEN):
                raise ValueError(
                    f"line {number} is no `name:key` with {MIN_KEY_LEN} to {MAX_KEY_LEN}"
                    f" characters of key and a name of at most {MAX_TENANT_LEN}"
                )
            digest = self._digest(key)
            if names.setdefault(digest, name) != name:
                raise ValueError(f"line {number} has a key that another name has, too")
        if not names:
            raise ValueError("has no key: nobody could come in")
        return names

    def _digest(self, key: str) -> bytes:
        return hashlib.blake2b(key.encode(), key=self._secret, digest_size=32).digest()


def _words(error: Exception) -> str:
    """Never a line of the file."""
    if isinstance(error, OSError):
        return error.strerror or "cannot be read"
    return "is no UTF-8" if isinstance(error, UnicodeDecodeError) else str(error)
