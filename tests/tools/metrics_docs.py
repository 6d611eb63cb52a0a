"""Writes docs/metrics.md from the tables of metrics; `--check` compares instead."""

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from radixroute.insight.insight import INSIGHT_METRICS
from radixroute.insight.misses.metrics import MISS_METRICS
from radixroute.insight.shadow.metrics import SHADOW_METRICS
from radixroute.metrics.metric import Metric
from radixroute.metrics.own import OWN_METRICS
from radixroute.router.api.metrics.counts import COUNT_METRICS
from radixroute.router.api.metrics.fleet import FLEET_METRICS
from radixroute.router.api.metrics.queue import QUEUE_METRICS
from radixroute.router.api.metrics.sight import MAX_TENANTS
from radixroute.router.api.metrics.table import ROUTER_METRICS
from radixroute.worker.api.metrics import WORKER_METRICS
from radixroute.worker.companions.measures.metrics import COMPANION_METRICS

PAGE = Path(__file__).resolve().parents[2] / "docs" / "metrics.md"
HEAD = f"""\
# Metrics

The router and each worker answer `GET /metrics` in Prometheus' text format, or as OpenMetrics for
whoever accepts that. `radixroute up` says where the router's page is: `router.metrics_port`, 9464
unless another process has it; `none`: no page. A worker's port is one the system picks
(`worker.metrics_port`), since workers share their settings and often a machine:
`radixroute workers --json` shows each as `metrics_address`. Pages listen where gRPC does, on
loopback unless `insecure_bind` says otherwise. Nothing is computed until a page is asked for, but
sums and buckets.

Names are `radixroute_`, words, and the unit last: `_seconds`, `_bytes`, `_tokens`, `_blocks`;
counters end with `_total`. Labels have few values: workers are seats of the fleet, not lives; of
tenants the first {MAX_TENANTS} that were seen to wait have their name, all others are `other`.
Beside these a page has `process_*`: CPU, memory and open files of its process.

A Grafana dashboard of all of them is `deploy/grafana/radixroute.json`, and what a Prometheus
scrapes is in `deploy/grafana/prometheus.yml`. This page is made by
`python -m tests.tools.metrics_docs`, the dashboard by `python -m tests.tools.grafana`.
"""


def sections() -> tuple[tuple[str, Sequence[Metric[Any]]], ...]:
    """Every table there is, with its title."""
    router = [
        m for m in ROUTER_METRICS if m not in (*QUEUE_METRICS, *COUNT_METRICS, *FLEET_METRICS)
    ]
    return (
        ("Of every page", OWN_METRICS),
        ("Router", router),
        ("Router: the queue and the house", QUEUE_METRICS),
        ("Router: what happened", COUNT_METRICS),
        ("Router: its workers, as it sees them", FLEET_METRICS),
        ("Router: who looks on", INSIGHT_METRICS),
        ("Router: why tokens were missed", MISS_METRICS),
        ("Router: shadows, where it has any", SHADOW_METRICS),
        ("Worker", WORKER_METRICS),
        ("Worker: the companion of another's engine", COMPANION_METRICS),
    )


def page() -> str:
    return "\n".join([HEAD, *(_section(title, table) for title, table in sections())])


def main() -> int:
    fresh = page()
    if "--check" not in sys.argv:
        PAGE.write_text(fresh)
    elif not PAGE.exists() or PAGE.read_text() != fresh:
        print("docs/metrics.md is out of date: run python -m tests.tools.metrics_docs")
        return 1
    return 0


def _section(title: str, table: Sequence[Metric[Any]]) -> str:
    rows = [f"## {title}\n", "| metric | kind | labels | meaning |", "| --- | --- | --- | --- |"]
    for metric in table:
        labels = ", ".join(metric.labels)
        rows.append(f"| `{metric.name}` | {metric.kind} | {labels} | {metric.help} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    sys.exit(main())
