"""A small disk: a folder of this process's own that has hardly any room, so that it can be filled.

A tmpfs in a mount namespace of this process: both end with it, whatever happens. Linux, and the
rights of an administrator; where they are not there is no such disk. Call before anything is
started.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SIZE = "1m"
CHUNK, PAGE = 1 << 16, 4096
_CLONE_NEWNS = 0x00020000
_MNT_DETACH = 2
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000


@contextmanager
def small_disk(folder: Path) -> Iterator[Path | None]:
    """`folder` as one; None where that is not allowed."""
    libc = ctypes.CDLL(None, use_errno=True)
    made = (
        libc.unshare(_CLONE_NEWNS) == 0
        and libc.mount(b"none", b"/", None, _MS_REC | _MS_PRIVATE, None) == 0
        and libc.mount(b"tmpfs", bytes(folder), b"tmpfs", 0, f"size={SIZE}".encode()) == 0
    )
    try:
        yield folder if made else None
    finally:
        if made:
            libc.umount2(bytes(folder), _MNT_DETACH)


def fill(folder: Path) -> Path:
    """Writes there until nothing fits any more; without the file that it returns there is room.

    Logs there are filled up to the end of their last page, which would take some more lines.
    """
    for log in folder.glob("*.log"):
        with log.open("ab") as file:
            file.write(b"\n" * (-file.tell() % PAGE))
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (CHUNK, 1):
            for _ in _until_full(file.fileno(), size):
                pass
    return path


def _until_full(descriptor: int, size: int) -> Iterator[int]:
    while True:
        try:
            yield os.write(descriptor, bytes(size))
        except OSError:
            return
