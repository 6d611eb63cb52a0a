"""What the engine's benchmark shows at its end: a table of its rows, and facts about both sides."""

from collections.abc import Sequence

import torch
from rich.table import Table

from bench.engine.laps import EngineRow
from bench.engine.ours import THREADS
from radixroute.demo.machine import load_average, machine


def table(rows: Sequence[EngineRow]) -> Table:
    """One line for each row; ratio above 1 means ours is better."""
    shown = Table(
        title="Ours against transformers and vLLM; warm against cold; served against bare"
    )
    for heading in ("row", "ours", "peer", "unit", "times better"):
        shown.add_column(heading, justify="left" if heading in ("row", "unit") else "right")
    for row in rows:
        shown.add_row(
            row.name, f"{row.ours:,.1f}", f"{row.peer:,.1f}", row.unit, f"{row.ratio:.2f}"
        )
    return shown


def facts(load_before: float) -> dict[str, object]:
    """The machine, how busy it was, and how many threads each side had."""
    return {
        **machine(),
        "load_average": {"before": load_before, "after": load_average()},
        "torch_threads": {"ours": THREADS, "peer": torch.get_num_threads()},
    }
