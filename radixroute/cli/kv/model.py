"""A model's KV cache as a command names it: folder or config, and format."""

from pathlib import Path
from typing import TYPE_CHECKING

from radixroute.errors import BadInput

if TYPE_CHECKING:
    from radixroute.worker.model.kv.formats import KVFormat
    from radixroute.worker.model.kv.shape import KVShape


def kv_of(model: Path, dtype: str, option: str) -> "tuple[KVShape, KVFormat]":
    """`option` gave the dtype. Raises `BadInput`."""
    from radixroute.worker.errors import ModelError
    from radixroute.worker.model.kv.formats import AUTO, FORMATS, format_named
    from radixroute.worker.model.kv.shape import read_shape

    try:
        shape = read_shape(model)
    except ModelError as error:
        raise BadInput(str(error)) from error
    kv_format = shape.dtype if dtype == AUTO else format_named(dtype)
    if kv_format is None:
        raise BadInput(f"{option} is not known: use {AUTO}, {', '.join(FORMATS)}")
    return shape, kv_format
