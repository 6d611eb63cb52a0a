"""The demo's numbers for eyes: a table for the terminal, and the README's in Markdown."""

from collections.abc import Sequence

from rich.table import Table

from radixroute.demo.result.report import Spread, mean_ceiling, summarize
from radixroute.demo.run import PolicyRun


def run_table(runs: Sequence[PolicyRun]) -> Table:
    """One line for each run. Times at the client, milliseconds."""
    table = Table(title="Prefix hit rate as engines report it; TTFT at the client, ms")
    for heading in ("policy", "hit rate", "mean", "p50", "p99", "requests per worker", "errors"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for run in runs:
        table.add_row(
            run.policy,
            f"{run.hit_rate:.3f}",
            *(f"{value:,.0f}" for value in (run.ttft.mean, run.ttft.p50, run.ttft.p99)),
            " / ".join(str(count) for count in run.requests_per_worker.values()),
            str(len(run.outcome.errors) + run.outcome.unsent),
        )
    table.add_section()
    table.add_row("infinite cache", f"{mean_ceiling(runs):.3f}", "", "", "", "", "")
    return table


def summary_table(runs: Sequence[PolicyRun]) -> Table:
    """One line for each policy: median (worst) over its runs."""
    table = Table(title="Median (worst) over all runs; TTFT at the client, ms")
    for heading in ("policy", "hit rate", "TTFT mean", "p50", "p99"):
        table.add_column(heading, justify="left" if heading == "policy" else "right")
    for cells in _summary_cells(runs):
        table.add_row(*cells)
    table.add_section()
    table.add_row("infinite cache", f"{mean_ceiling(runs):.3f}", "", "", "")
    return table


def summary_markdown(runs: Sequence[PolicyRun]) -> str:
    """The README's table."""
    lines = [
        "| policy | prefix hit rate | TTFT mean, ms | TTFT p50, ms | TTFT p99, ms |",
        "| --- | --- | --- | --- | --- |",
        *("| " + " | ".join(cells) + " |" for cells in _summary_cells(runs)),
        f"| infinite cache | {mean_ceiling(runs):.3f} | | | |",
    ]
    return "\n".join(lines)


def _summary_cells(runs: Sequence[PolicyRun]) -> list[tuple[str, ...]]:
    return [
        (
            row.policy,
            f"{row.hit_rate.median:.3f} ({row.hit_rate.worst:.3f})",
            _times(row.ttft_mean),
            _times(row.ttft_p50),
            _times(row.ttft_p99),
        )
        for row in summarize(runs)
    ]


def _times(spread: Spread) -> str:
    return f"{spread.median:,.0f} ({spread.worst:,.0f})"
