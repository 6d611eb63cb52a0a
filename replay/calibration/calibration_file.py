"""A calibration as a file: what was measured, which alone is read again, and what was fitted."""

import json
from dataclasses import asdict, dataclass

import msgspec

from radixroute.replay.calibration.fitting import Calibration, fit
from radixroute.replay.calibration.rows import Rows
from radixroute.replay.errors import BadCalibration

SCHEMA, VERSION = "radixroute.calibration", 2
_READ = (1, VERSION)  # the first one knew no chunks: its prompts were one step each


@dataclass(frozen=True, slots=True)
class _File:
    schema: str
    version: int
    rows: Rows


def calibration_json(rows: Rows) -> str:
    """What was measured, and for people what was fitted to it. Raises `BadCalibration`."""
    record = {
        "schema": SCHEMA,
        "version": VERSION,
        "rows": asdict(rows),
        "fitted": asdict(fit(rows)),
    }
    return json.dumps(record, indent=1) + "\n"


def read_calibration(data: bytes) -> Calibration:
    """Fits the rows of a file again: they are the truth in it. Raises `BadCalibration`."""
    try:
        found = msgspec.json.decode(data, type=_File)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadCalibration(f"it is no calibration: {error}") from error
    if found.schema != SCHEMA or found.version not in _READ:
        raise BadCalibration(f"its schema must be {SCHEMA}, version {VERSION} or before")
    return fit(found.rows)
