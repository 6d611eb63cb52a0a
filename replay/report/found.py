"""Findings of the runs for the terminal: in full of the runs that matter, by title of the rest.

Pure. Those that matter: live ones, the best of each setting, and the default policy's.
"""

import math
from collections.abc import Iterator

from radixroute.replay.report.report import Report
from radixroute.replay.report.table import by_setting, setting_name
from radixroute.replay.report.text import printable
from radixroute.replay.results import LIVE

DEFAULT = "radix"


def finding_lines(report: Report) -> Iterator[str]:
    """Nothing where nothing was found."""
    figures = report.figures()
    groups = by_setting(figures)
    for setting, rows in groups.items():
        where = f" ({setting_name(setting)})" if len(groups) > 1 else ""
        answered = [row for row in rows if math.isfinite(figures[row].ttft_mean_ms)]
        best = min(answered, key=lambda row: figures[row].ttft_mean_ms, default=None)
        rest = []
        for row in rows:
            one = figures[row]
            found = report.runs[row].findings
            if row == best or one.source == LIVE or one.policy == DEFAULT:
                for each in found:
                    yield f"{printable(one.name)}{where}, {each.title}: {each.sentence}."
            elif found:
                titles = ", ".join(each.title for each in found)
                rest.append(f"{printable(one.name)} ({titles})")
        if rest:
            yield f"Found of others{where}: {'; '.join(rest)}."
