"""A contiguous cache that keeps K and V in fewer bits than attention computes in.

New rows are rounded to the format when they are written, the whole context is turned back when it
is read. What is lost is lost for every later token; what is won is memory, and bytes to read.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from radixroute.worker.model.kv.formats import KVFormat
from radixroute.worker.model.kv.rounding import STORED, Rounded, restored, rounded
from radixroute.worker.model.teaching.planes import Plane, bytes_of
from radixroute.worker.model.teaching.work import Work


class FormattedCache:
    """Room for `max_tokens` tokens of one sequence in one layer, in one format."""

    def __init__(
        self, max_tokens: int, planes: Sequence[Plane], work: Work, kv_format: KVFormat
    ) -> None:
        self._format, self._work = kv_format, work
        self._room = tuple(_room(max_tokens, plane, kv_format) for plane in planes)
        self.length = 0

    @property
    def reserved_bytes(self) -> int:
        return sum(_bytes(room) for room in self._room)

    def extend(self, *new: Tensor) -> tuple[Tensor, ...]:
        start, self.length = self.length, self.length + len(new[0])
        for room, rows in zip(self._room, new, strict=True):
            kept = rounded(rows, self._format)
            room.values[start : self.length] = kept.values
            if room.scales is not None and kept.scales is not None:
                room.scales[start : self.length] = kept.scales
            self._work.kv_written += _bytes(kept)
        return tuple(
            self._read(room, rows.dtype) for room, rows in zip(self._room, new, strict=True)
        )

    def _read(self, room: Rounded, dtype: torch.dtype) -> Tensor:
        scales = None if room.scales is None else room.scales[: self.length]
        kept = Rounded(room.values[: self.length], scales)
        self._work.kv_read += _bytes(kept)
        return restored(kept, self._format, dtype)


def _room(max_tokens: int, plane: Plane, kv_format: KVFormat) -> Rounded:
    values = torch.zeros(max_tokens, *plane, dtype=STORED[kv_format.name])
    scales = torch.zeros(max_tokens, plane.heads) if kv_format.scale_bytes else None
    return Rounded(values, scales)


def _bytes(kept: Rounded) -> int:
    return bytes_of(kept.values) + (0 if kept.scales is None else bytes_of(kept.scales))
