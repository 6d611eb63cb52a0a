"""Writes deploy/grafana/radixroute.json from the tables of metrics; `--check` compares instead."""

import json
import sys
from pathlib import Path

from radixroute.metrics.board import (
    Panel,
    Query,
    Section,
    board,
    panel_of,
    quantile,
    quantiles,
    rate,
)
from tests.tools.metrics_docs import sections

BOARD = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "radixroute.json"

_CACHED = "radixroute_worker_cached_tokens_total"
_PROMPT = "radixroute_worker_prompt_tokens_total"
_PREDICTED = "radixroute_worker_predicted_tokens_total"

FIRST = (
    Panel(
        "Requests a second, by outcome",
        (Query(rate("radixroute_requests_ended_total", ("outcome",)), "{{outcome}}"),),
        "reqps",
        is_stacked=True,
    ),
    Panel("Time to first token", quantiles("radixroute_request_first_token_seconds"), "s"),
    Panel("Time for each further token", quantiles("radixroute_request_output_token_seconds"), "s"),
    Panel(
        "Hit rate: told, predicted, to be had",
        (
            Query(f"{rate(_CACHED)} / {rate(_PROMPT)}", "told by engines"),
            Query(f"{rate(_PREDICTED)} / {rate(_PROMPT)}", "predicted"),
            Query(f"{rate('radixroute_reachable_tokens_total')} / {rate(_PROMPT)}", "to be had"),
        ),
        "percentunit",
        "Cached prompt tokens / prompt tokens; to be had: with one cache without a limit",
    ),
    Panel(
        "Hit rate by worker",
        (Query(f"{rate(_CACHED, ('worker',))} / {rate(_PROMPT, ('worker',))}", "{{worker}}"),),
        "percentunit",
    ),
    Panel(
        "Missed prompt tokens a second, by reason",
        (Query(rate("radixroute_missed_tokens_total", ("reason",)), "{{reason}}"),),
        help="docs/misses.md says what helps against each",
        is_stacked=True,
    ),
    Panel(
        "Time in the queue",
        (
            Query(quantile(0.5, "radixroute_request_queue_seconds"), "p50"),
            Query(quantile(0.99, "radixroute_request_queue_seconds"), "p99"),
        ),
        "s",
    ),
    Panel(
        "Waiting, by priority",
        (Query("sum by (priority) (radixroute_queue_requests)", "{{priority}}"),),
        is_stacked=True,
    ),
    Panel(
        "Workers, by state",
        (Query("sum by (state) (radixroute_worker_state)", "{{state}}"),),
        is_stacked=True,
    ),
    Panel(
        "KV pool in use or cached, by worker",
        (
            Query(
                "sum by (worker) (radixroute_worker_kv_used_blocks)"
                " / sum by (worker) (radixroute_worker_kv_blocks)",
                "{{worker}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Idle while requests waited, by worker and kind",
        (
            Query(
                rate("radixroute_worker_idle_seconds_total", ("worker", "kind")),
                "{{worker}} {{kind}}",
            ),
        ),
        "percentunit",
    ),
    Panel(
        "Deaths, resumes, gaps",
        (
            Query(rate("radixroute_workers_died_total"), "workers lost"),
            Query(rate("radixroute_requests_resumed_total"), "requests resumed"),
            Query(rate("radixroute_worker_stream_gaps_total"), "gaps of event streams"),
        ),
    ),
)


def page() -> str:
    rows = [Section("At a glance", FIRST, is_open=True)]
    rows += [Section(title, tuple(map(panel_of, table))) for title, table in sections()]
    return json.dumps(board("radixroute", "radixroute", rows), indent=1) + "\n"


def main() -> int:
    fresh = page()
    if "--check" not in sys.argv:
        BOARD.parent.mkdir(exist_ok=True)
        BOARD.write_text(fresh)
    elif not BOARD.exists() or BOARD.read_text() != fresh:
        print("deploy/grafana is out of date: run python -m tests.tools.grafana")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
