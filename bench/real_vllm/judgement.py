"""What was measured, stage by stage, and which promises failed.

A run of some stages replaces what those measured and keeps the rest of the file: each stage stands
for itself, with its time, the load it began under, its machine and versions. Those at the top of
the file are the last run's.
"""

import json
import os
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from bench.rows import Row, write

_STAGES: Final = "stages"


class Judgement:
    """Rows, and what is no row, of each stage that ended."""

    def __init__(self) -> None:
        self.failed: list[str] = []
        self._rows: list[Row] = []  # of the stage under way
        self._seen: dict[str, object] = {}
        self._measured: dict[str, tuple[list[Row], dict[str, object]]] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """What is put within is this stage's, if it comes to its end."""
        print(f"== {name}", flush=True)
        begun = {"begun": time.strftime("%Y-%m-%d %H:%M"), "load": round(os.getloadavg()[0], 1)}
        self._rows, self._seen = [], {}
        yield
        self._measured[name] = self._rows, {**begun, **self._seen}

    def put(self, row: Row) -> None:
        self._rows.append(row)

    def tell(self, name: str, seen: object) -> None:
        self._seen[name] = seen

    def hold(self, promise: str, is_kept: bool) -> None:
        print(f"  {'kept' if is_kept else 'BROKEN'}: {promise}", flush=True)
        if not is_kept:
            self.failed.append(promise)

    def write(self, path: Path, machine: Mapping[str, object], versions: Mapping[str, str]) -> None:
        """Beside the stages in `path` that were not run again."""
        rows, stages = self._earlier(path)
        where = {"machine": dict(machine), "versions": dict(versions)}
        for name, (measured, seen) in self._measured.items():
            stages[name] = {**where, **seen, "rows": [row.name for row in measured]}
            rows.update((row.name, row) for row in measured)
        told = {name for seen in stages.values() for name in seen["rows"]}
        write(
            path,
            [row for row in rows.values() if row.name in told],
            machine,
            versions,
            {_STAGES: stages},
        )

    def _earlier(self, path: Path) -> tuple[dict[str, Row], dict[str, dict[str, Any]]]:
        record: dict[str, Any] = {}
        with suppress(OSError):
            record = json.loads(path.read_text())
        rows = [Row(**row) for row in record.get("rows", ())]
        return {row.name: row for row in rows}, record.get(_STAGES, {})
