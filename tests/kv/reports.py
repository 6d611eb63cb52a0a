"""A made-up report with every kind of plot, and names that would like to be more than text."""

from functools import cache

from radixroute.kv.lab.records import Kind, LabReport, Plot, Result, Series, Skipped, Table

HOSTILE = "</script><img src=x onerror=alert(1)>"


@cache
def report():
    lines = Plot(
        "lines",
        f"Lines {HOSTILE}",
        "tokens",
        "ms",
        (
            Series.of(HOSTILE, [(1, 2.0), (10, 3.0), (100, 40.0)]),
            Series.of("formula", [(1, 1.0), (100, 10.0)], is_formula=True),
        ),
        is_log_x=True,
        is_log_y=True,
    )
    points = Plot(
        "points",
        "Points",
        "x",
        "y",
        (
            Series.of("measured", [(0.5, 3.0), (9.0, 4.0)]),
            Series.of("roof", [(0.1, 1.0), (10.0, 9.0)], is_formula=True),
        ),
        Kind.POINTS,
    )
    bars = Plot(
        "bars",
        "Bars",
        "variant",
        "%",
        (Series.bars("one", [1.0, -2.0, 0.0]), Series.bars("two", [3.0, 4.0, 5.0])),
        Kind.BARS,
        categories=("a long name of many words", "b", HOSTILE),
    )
    table = Table("Numbers", ("name", "number"), ((HOSTILE, "3 ms"),))
    result = Result(
        "made-up", "Made up", "Does it draw?", "One.\n\nTwo.", (lines, points, bars), (table,)
    )
    return LabReport(
        "a machine", (HOSTILE,), (result,), (Skipped("x", "X", HOSTILE),), "kv lab", 1.0, True
    )
