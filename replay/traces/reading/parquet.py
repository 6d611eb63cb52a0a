"""The rows of a Parquet file, as JSON or as CSV. `pyarrow` is an extra."""

import csv
import io
from collections.abc import Callable, Iterator
from datetime import datetime
from typing import Any, BinaryIO

import msgspec

from radixroute.replay.errors import BadTrace

MARK = b"PAR1"
_BATCH = 1024  # rows


def parquet_rows(file: BinaryIO, is_header: Callable[[bytes], bool]) -> Iterator[bytes]:
    """A JSON object a row, or lines of CSV where `is_header` knows the names of its columns.

    `file` must be seekable. Times become ISO 8601. Raises `BadTrace`.
    """
    try:
        import pyarrow
        import pyarrow.parquet as pq
    except ImportError:
        raise BadTrace(
            "it is a Parquet file, and the library for that is not installed: pip install"
            " 'radixroute[parquet]'"
        ) from None
    try:
        table = pq.ParquetFile(file)
        names: list[str] = table.schema_arrow.names
        header = _csv_line(names)
        as_csv = is_header(header)
        if as_csv:
            yield header
        for batch in table.iter_batches(batch_size=_BATCH):
            for row in _coarse(pyarrow, batch).to_pylist():
                yield _csv_line(_cells(row)) if as_csv else msgspec.json.encode(row)
    except (pyarrow.ArrowException, OSError, ValueError) as broken:
        raise BadTrace(f"its Parquet cannot be read: {_first_line(broken)}") from broken


def _coarse(pyarrow: Any, batch: Any) -> Any:
    """Times of nanoseconds as microseconds: Python's dates end there."""
    columns = [
        column.cast(pyarrow.timestamp("us", column.type.tz), safe=False)
        if pyarrow.types.is_timestamp(column.type) and column.type.unit == "ns"
        else column
        for column in batch.columns
    ]
    return pyarrow.RecordBatch.from_arrays(columns, names=batch.schema.names)


def _cells(row: dict[str, Any]) -> list[str]:
    return [
        "" if one is None else one.isoformat(" ") if isinstance(one, datetime) else str(one)
        for one in row.values()
    ]


def _csv_line(cells: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="").writerow(cells)
    return text.getvalue().encode()


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
