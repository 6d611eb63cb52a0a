"""Fingerprint of a model: of its configuration and its weights, as files. No torch.

`whole` reads every byte, so that two folders that differ in one weight share no block key.
`sampled` takes a moment however large the files are: it reads what the tensors are called and a
piece of each, which tells models apart, and not a change of a few numbers. The two are never equal.
"""

import hashlib
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import BinaryIO, Final

import msgspec

_BYTES: Final = 16
_PIECE_BYTES: Final = 512
_MOST_PIECES: Final = 4096  # of all files: some seconds where each is a seek over a network
_MOST_HEADER_BYTES: Final = 64 << 20


class _Tensor(msgspec.Struct):
    data_offsets: tuple[int, int] | None = None


def whole(config: Path, weights: Iterable[Path]) -> str:
    """32 hex digits over every byte. About 1 s a GB. Raises `OSError`."""
    state = hashlib.blake2b(digest_size=_BYTES)
    for path in (config, *weights):
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "blake2b")
        state.update(path.name.encode() + b"\0" + content.digest())
    return state.hexdigest()


def sampled(config: Path, weights: Sequence[Path]) -> str:
    """32 hex digits over sizes, headers, and a piece of each tensor of safetensors files. Raises
    `OSError`."""
    state = hashlib.blake2b(digest_size=_BYTES, person=b"rr-sampled-model")
    for part in (config.read_bytes(), str(len(weights)).encode()):
        state.update(len(part).to_bytes(8, "big") + part)
    for path in weights:
        with path.open("rb") as file:
            size = path.stat().st_size
            state.update(path.name.encode() + b"\0" + size.to_bytes(8, "big"))
            header_len = min(int.from_bytes(file.read(8), "little"), size, _MOST_HEADER_BYTES)
            header = file.read(header_len)
            state.update(header)
            for at in _places(header, size, max(1, _MOST_PIECES // len(weights))):
                state.update(_piece(file, at))
    return state.hexdigest()


def _places(header: bytes, size: int, most: int) -> list[int]:
    """Where pieces begin: the middles of tensors, else spread evenly. At most so many."""
    begin = 8 + len(header)
    try:
        tensors = msgspec.json.decode(header, type=dict[str, _Tensor]).values()
        middles = [begin + sum(one.data_offsets) // 2 for one in tensors if one.data_offsets]
    except msgspec.MsgspecError:
        middles = []
    if not middles:
        step = max(1, (size - begin) // most)
        middles = list(range(begin, size, step))
    return sorted(middles)[:: -(-len(middles) // most)] if middles else []


def _piece(file: BinaryIO, at: int) -> bytes:
    file.seek(at)
    return file.read(_PIECE_BYTES)
