"""Compressions told by content: gzip, bzip2, xz and zstd. Truncated or damaged data raise.

`zstandard` is an extra: Python below 3.14 has no zstd of its own.
"""

import bz2
import gzip
import io
import lzma
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from typing import Any, BinaryIO, TypeAlias, cast

from radixroute.replay.errors import BadTrace

# Opens a file or what is inside of it, from its beginning; it can be opened again.
Opener: TypeAlias = Callable[[], AbstractContextManager[BinaryIO]]

_MAX_WINDOW = 1 << 31  # of zstd: what `zstd --long=31` writes
_CHUNK = 1 << 16


def decompressed(head: bytes, opener: Opener) -> Opener | None:
    """What opens the content of a compressed file; None: it is not compressed. `head`: of it."""
    for mark, (name, decompressor) in _COMPRESSIONS.items():
        if head.startswith(mark):
            return lambda: _through(opener, name, decompressor)
    return None


@contextmanager
def _through(
    opener: Opener, name: str, decompressor: Callable[[BinaryIO], BinaryIO]
) -> Iterator[BinaryIO]:
    with opener() as outer, closing(decompressor(outer)) as inner:
        try:
            yield inner
        except (EOFError, zlib.error, gzip.BadGzipFile, lzma.LZMAError) as broken:
            raise BadTrace(f"its compression ({name}) is damaged: {broken}") from broken
        except OSError as broken:
            if broken.errno is not None:  # the disk's, not the data's
                raise
            raise BadTrace(f"its compression ({name}) is damaged: {broken}") from broken


def _gzip(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, gzip.GzipFile("", "rb", fileobj=file))


def _bzip2(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, bz2.BZ2File(file))


def _xz(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, lzma.LZMAFile(file))


def _zstd(file: BinaryIO) -> BinaryIO:
    return cast(BinaryIO, io.BufferedReader(_ZstdReader(file), _CHUNK))


class _ZstdReader(io.RawIOBase):
    """Frames of zstd, one after the other. The library's own reader takes a torn one for whole."""

    def __init__(self, file: BinaryIO) -> None:
        try:
            import zstandard
        except ImportError:
            raise BadTrace(
                "it is compressed by zstd, and the library for that is not installed: pip install"
                " 'radixroute[zstd]', or unpack it by `zstd -d`"
            ) from None
        self._error = zstandard.ZstdError
        self._file = file
        self._decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self._frame: Any = None
        self._rest = b""  # read, and not yet decompressed
        self._ready = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._ready:
            data = self._rest or self._file.read(_CHUNK)
            self._rest = b""
            if not data:
                if self._frame is not None:
                    raise EOFError("it ends before its end")
                return 0
            self._take(data)
        n = min(len(buffer), len(self._ready))
        buffer[:n] = self._ready[:n]
        self._ready = self._ready[n:]
        return n

    def _take(self, data: bytes) -> None:
        if self._frame is None:
            self._frame = self._decompressor.decompressobj()
        try:
            self._ready = memoryview(self._frame.decompress(data))
        except self._error as broken:
            raise EOFError(str(broken)) from broken
        if self._frame.eof:
            self._rest, self._frame = self._frame.unused_data, None


_COMPRESSIONS: dict[bytes, tuple[str, Callable[[BinaryIO], BinaryIO]]] = {
    b"\x1f\x8b": ("gzip", _gzip),
    b"BZh": ("bzip2", _bzip2),
    b"\xfd7zXZ\x00": ("xz", _xz),
    b"\x28\xb5\x2f\xfd": ("zstd", _zstd),
}
