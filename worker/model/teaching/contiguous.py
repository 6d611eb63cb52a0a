"""A contiguous cache: one long piece of memory for each sequence, reserved before it is needed.

K and V of a token depend on that token and those before it, never on those behind it: once
computed they stay true, so a step computes them for its new tokens only. Reading is a view. The
price: memory for the longest sequence that may come, whether it comes or not, and two sequences
that begin alike keep two copies.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from radixroute.worker.model.teaching.planes import Plane, bytes_of
from radixroute.worker.model.teaching.work import Work


class ContiguousCache:
    """Room for `max_tokens` tokens of one sequence in one layer."""

    def __init__(
        self,
        max_tokens: int,
        planes: Sequence[Plane],
        work: Work,
        *,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        self._room = tuple(torch.zeros(max_tokens, *plane, dtype=dtype) for plane in planes)
        self._work = work
        self.length = 0

    @property
    def reserved_bytes(self) -> int:
        return bytes_of(*self._room)

    @property
    def used_bytes(self) -> int:
        return bytes_of(*(room[: self.length] for room in self._room))

    def extend(self, *new: Tensor) -> tuple[Tensor, ...]:
        """Raises `ValueError` when the reserved room is full: it cannot grow in place."""
        end = self.length + len(new[0])
        if end > len(self._room[0]):
            raise ValueError(f"{end} tokens in a cache reserved for {len(self._room[0])}")
        for room, rows in zip(self._room, new, strict=True):
            room[self.length : end] = rows
        self.length = end
        context = tuple(room[:end] for room in self._room)  # views: nothing is copied
        self._work.kv_written += bytes_of(*new)
        self._work.kv_read += bytes_of(*context)
        return tuple(x.to(rows.dtype) for x, rows in zip(context, new, strict=True))
