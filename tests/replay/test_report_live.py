"""Reports with a live run: how late it was sent, how workers idled, and the simulated run."""

import json
from dataclasses import replace

from radixroute.replay.report.page.html import index_html
from radixroute.replay.report.report import Report, ReportedRun, results_json
from radixroute.replay.report.table import conclusion, idle_table
from radixroute.replay.results import LIVE
from tests.replay.report_samples import MS, ints, tiny_report, tiny_run


def live_report(**changes):
    """A live run with the simulated one of the same policy beside it."""
    spans = ints(1, 2, 3, 4, 5, 6).reshape(2, 3) * MS
    live = tiny_run(
        ttft_ms=(50, 20, 30, 40), source=LIVE, lateness_ns=ints(0, 1, 2, 5) * MS, idle_ns=spans
    )
    return Report((ReportedRun(replace(live, **changes)), ReportedRun(tiny_run())))


def test_a_live_run_says_how_late_it_was_sent_and_how_workers_idled():
    live, simulated = json.loads(results_json(live_report()))["runs"]
    assert (live["source"], simulated["source"]) == ("live", "simulated")
    assert live["lateness_ms"] == {"mean": 2.0, "p99": 4.91, "max": 5.0}
    assert live["idle_while_waiting_ms"] == {
        "planned": [1.0, 4.0],
        "avoidable": [2.0, 5.0],
        "starting": [3.0, 6.0],
    }
    assert simulated["lateness_ms"] is None
    assert set(live) == set(simulated)


def test_live_and_simulated_stand_side_by_side_and_are_told_apart():
    report = live_report()
    assert conclusion(report) == (
        "radix (live): mean TTFT 35.0 ms, reuse 0.5760; simulated 25.0 ms (-29 %), reuse 0.5760."
    )
    assert "radix (live)" in index_html(report)
    assert "Idle while requests waited" in index_html(report)
    assert "9.0 (6.0)" in index_html(report)  # both workers, and the idler
    found = idle_table(report)
    assert found is not None
    assert found.row_count == 2
    assert idle_table(tiny_report()) is None
    unknown = live_report(idle_ns=None)
    assert idle_table(unknown) is None
    assert json.loads(results_json(unknown))["runs"][0]["idle_while_waiting_ms"] is None


def test_unanswered_live_requests_are_told():
    first = ints(-1, 1020, 2030, 3040) * MS
    assert "1 requests were never answered" in conclusion(live_report(first_ns=first))
