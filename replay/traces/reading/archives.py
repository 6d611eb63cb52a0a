"""The one file in a zip or a tar. Archives of several are refused with their names."""

import io
import tarfile
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import PurePosixPath
from typing import BinaryIO, cast

from radixroute.replay.errors import BadTrace
from radixroute.replay.traces.reading.compression import Opener

_ZIP = (b"PK\x03\x04", b"PK\x05\x06")  # the second: an empty one
_TAR, _TAR_AT = b"ustar", 257
HEAD_BYTES = 512  # of a file, enough to see a tar in
_SHOWN = 5  # names


def unpacked(head: bytes, opener: Opener) -> Opener | None:
    """What opens the one file in an archive; None: it is none. `head`: its first `HEAD_BYTES`."""
    if head.startswith(_ZIP):
        return lambda: _in_zip(opener)
    if head[_TAR_AT : _TAR_AT + len(_TAR)] == _TAR:
        name = _name_in_tar(opener)
        return lambda: _in_tar(opener, name)
    return None


def with_random_access(file: BinaryIO) -> BinaryIO:
    """The file itself if it lies on the disk, else all of it in memory."""
    is_on_disk = isinstance(file, io.BufferedReader) and isinstance(file.raw, io.FileIO)
    return file if is_on_disk and file.seekable() else io.BytesIO(file.read())


@contextmanager
def _in_zip(opener: Opener) -> Iterator[BinaryIO]:
    with opener() as outer:
        try:
            # A zip is read from its end.
            with zipfile.ZipFile(with_random_access(outer)) as archive:
                name = _only([one.filename for one in archive.infolist() if not one.is_dir()])
                if archive.getinfo(name).flag_bits & 1:
                    raise BadTrace("it is an encrypted zip: unpack it")
                with archive.open(name) as inner:
                    yield cast(BinaryIO, inner)
        except (zipfile.BadZipFile, EOFError, zlib.error) as broken:
            raise BadTrace(f"its zip is damaged: {broken}") from broken
        except NotImplementedError as unknown:  # what zipfile says of a packing it has not
            raise BadTrace(f"its zip cannot be read ({unknown}): unpack it") from unknown


def _name_in_tar(opener: Opener) -> str:
    with _tar(opener) as archive:
        return _only([one.name for one in archive if one.isfile()])


@contextmanager
def _in_tar(opener: Opener, name: str) -> Iterator[BinaryIO]:
    with _tar(opener) as archive:
        for one in archive:
            inner = archive.extractfile(one) if one.name == name and one.isfile() else None
            if inner is not None:
                with inner:
                    yield cast(BinaryIO, inner)
                return


@contextmanager
def _tar(opener: Opener) -> Iterator[tarfile.TarFile]:
    """As a stream: what is inside a compression can only be read from its beginning."""
    try:
        with opener() as outer, tarfile.open(fileobj=outer, mode="r|") as archive:
            yield archive
    except tarfile.TarError as broken:
        raise BadTrace(f"its tar is damaged: {broken}") from broken


def _only(names: Sequence[str]) -> str:
    # Packers of some systems add files of their own: __MACOSX/, ._name, .DS_Store.
    wanted = [name for name in names if not _is_hidden(PurePosixPath(name))]
    if not wanted:
        raise BadTrace("it is an archive without a file in it")
    if len(wanted) > 1:
        more = f" and {len(wanted) - _SHOWN} more" if len(wanted) > _SHOWN else ""
        raise BadTrace(
            f"it is an archive of {len(wanted)} files ({', '.join(wanted[:_SHOWN])}{more}): unpack"
            " it, and name one"
        )
    return wanted[0]


def _is_hidden(path: PurePosixPath) -> bool:
    return any(part.startswith(".") and part not in (".", "..") for part in path.parts) or (
        path.parts[:1] == ("__MACOSX",)
    )
