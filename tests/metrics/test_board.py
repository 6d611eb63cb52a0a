"""The dashboard: every panel asks for what exists, and nothing that exists is without a panel."""

import json
import re

import pytest
import yaml

from radixroute.metrics.metric import Kind
from tests.tools import grafana
from tests.tools.metrics_docs import sections

METRICS = {metric.name: metric for _, table in sections() for metric in table}
BOARD = json.loads(grafana.page())


def charts():
    for panel in BOARD["panels"]:
        if panel["type"] == "row":
            yield from panel["panels"]
        else:
            yield panel


EXPRESSIONS = [target["expr"] for panel in charts() for target in panel["targets"]]


def named(expression: str) -> list[tuple[str, str]]:
    """Metrics of an expression, each with its ending where it has one."""
    found = []
    for word in re.findall(r"radixroute_[a-z0-9_]+", expression):
        bare = re.sub(r"_(bucket|sum|count)$", "", word)
        if word not in METRICS and bare in METRICS and METRICS[bare].kind is Kind.HISTOGRAM:
            found.append((bare, word.removeprefix(bare)))
        else:
            found.append((word, ""))
    return found


def test_the_dashboard_is_up_to_date():
    assert grafana.BOARD.read_text() == grafana.page(), "run python -m tests.tools.grafana"


def test_every_panel_asks_for_metrics_that_exist_and_for_labels_that_they_have():
    assert len(EXPRESSIONS) > len(METRICS)
    for expression in EXPRESSIONS:
        names = named(expression)
        assert names, expression
        for name, _ in names:
            assert name in METRICS, f"{name} does not exist"
        labels = {label for name, _ in names for label in METRICS[name].labels} | {"le"}
        for group in re.findall(r"by \(([^)]*)\)", expression):
            assert set(group.split(", ")) <= labels, expression


def test_every_metric_has_a_panel():
    shown = {name for expression in EXPRESSIONS for name, _ in named(expression)}
    assert METRICS.keys() - shown == set()


def test_counters_are_shown_as_rates_and_histograms_as_quantiles():
    for expression in EXPRESSIONS:
        for name, ending in named(expression):
            kind, is_rate = METRICS[name].kind, f"rate({name}{ending}[" in expression
            assert is_rate == (kind is not Kind.GAUGE), expression
            assert (ending == "_bucket") == (kind is Kind.HISTOGRAM), expression


def test_no_two_panels_have_one_number_or_one_place():
    rows = [panel for panel in BOARD["panels"] if panel["type"] == "row"]
    everything = [*rows, *charts()]
    assert len({panel["id"] for panel in everything}) == len(everything)
    is_open = [panel["gridPos"] for panel in BOARD["panels"]]
    taken = set[tuple[int, int]]()
    for at in is_open:
        cells = {
            (x, y)
            for x in range(at["x"], at["x"] + at["w"])
            for y in range(at["y"], at["y"] + at["h"])
        }
        assert not cells & taken
        taken |= cells
        assert at["x"] + at["w"] <= 24


@pytest.mark.parametrize("row", [panel for panel in BOARD["panels"] if panel["type"] == "row"])
def test_only_what_is_looked_at_first_is_unfolded(row):
    assert row["collapsed"] is (row["title"] != "At a glance")
    assert bool(row["panels"]) is row["collapsed"]


def test_the_example_for_prometheus_is_one():
    config = yaml.safe_load((grafana.BOARD.parent / "prometheus.yml").read_text())
    assert [job["job_name"] for job in config["scrape_configs"]] == [
        "radixroute-router",
        "radixroute-workers",
    ]
