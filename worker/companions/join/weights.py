"""Weights: the fingerprint of the model that an engine serves, as far as its files are here.

Small ones are read whole, and then engines of ours that serve the same folder have the same one;
of large ones pieces are read; where there are none, the name and the tokenizer must do.
"""

import hashlib
import logging
from pathlib import Path, PurePosixPath
from typing import Final

import msgspec

from radixroute.request.tokenizer import MODEL_FILE, Tokenizer
from radixroute.worker.companions.dialects.dialect import Statement
from radixroute.worker.fingerprint import sampled, whole

_log = logging.getLogger(__name__)

MOST_WHOLE_BYTES: Final = 2 << 30  # read in some two seconds
_INDEX: Final = "model.safetensors.index.json"
_SINGLE: Final = "model.safetensors"
_FINGERPRINT_BYTES: Final = 16


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def fingerprint_of(statement: Statement, given: str, tokenizer: Tokenizer) -> str:
    """Hexadecimal. `given`: the folder that settings name; the engine's own comes first. Reads
    files: not for the event loop."""
    for folder in (statement.root, given):
        try:
            found = weights_fingerprint(Path(folder)) if folder else None
        except OSError as error:
            _log.warning("the weights in %s cannot be read: %s", folder, error.strerror)
            found = None
        if found is not None:
            return found
    return _named(statement, tokenizer)


def weights_fingerprint(folder: Path, most_whole_bytes: int = MOST_WHOLE_BYTES) -> str | None:
    """None: no safetensors files that are all there. Raises `OSError`."""
    config, files = folder / MODEL_FILE, _files_of(folder)
    if not files or not all(file.is_file() for file in (config, *files)):
        return None
    if sum(file.stat().st_size for file in files) <= most_whole_bytes:
        return whole(config, files)
    return sampled(config, files)


def _files_of(folder: Path) -> list[Path]:
    """In name order, as an engine of ours takes them."""
    index = folder / _INDEX
    if not index.is_file():
        return [folder / _SINGLE]
    try:
        names = set(msgspec.json.decode(index.read_bytes(), type=_Index).weight_map.values())
    except msgspec.MsgspecError:
        return []
    return [folder / name for name in sorted(names) if name == PurePosixPath(name).name]


def _named(statement: Statement, tokenizer: Tokenizer) -> str:
    """Of the model's name and its tokenizer's files."""
    digest = hashlib.blake2b(digest_size=_FINGERPRINT_BYTES, person=b"rr-named-model")
    name = PurePosixPath(statement.root or statement.model).name
    for part in (name.encode(), tokenizer.fingerprint.encode()):
        digest.update(len(part).to_bytes(8, "big") + part)
    return digest.hexdigest()
