"""Declarations: what a name must look like, and what a table may hold."""

import pytest

from radixroute.metrics.distribution import Distribution
from radixroute.metrics.few_names import FewNames
from radixroute.metrics.metric import BrokenMetric, Kind, Metric, Sample, Unit, one
from radixroute.metrics.page import Page, Part
from tests.tools import metrics_docs


def metric(name="radixroute_things", kind=Kind.GAUGE, unit=Unit.NONE, labels=(), read=None, **more):
    return Metric(name, kind, more.get("help", "Things"), read or one, unit, labels)


@pytest.mark.parametrize(
    "broken",
    [
        {"name": "things"},
        {"name": "radixroute_Things"},
        {"name": "radixroute__things"},
        {"name": "radixroute_things-left"},
        {"name": "radixroute_things", "kind": Kind.COUNTER},
        {"name": "radixroute_things_total", "kind": Kind.GAUGE},
        {"name": "radixroute_wait_ms"},
        {"name": "radixroute_wait_seconds"},
        {"name": "radixroute_wait", "unit": Unit.SECONDS},
        {"name": "radixroute_bytes_held", "unit": Unit.BYTES},
        {"name": "radixroute_things_count"},
        {"labels": ("le",)},
        {"labels": ("Worker",)},
        {"labels": ("worker", "worker")},
        {"help": ""},
        {"help": "Things."},
    ],
    ids=str,
)
def test_a_name_that_breaks_the_conventions_cannot_be_declared(broken):
    with pytest.raises(BrokenMetric):
        metric(**broken)


@pytest.mark.parametrize(
    "samples",
    [
        [Sample(1.0)],
        [Sample(1.0, ("a", "b"))],
        [Sample(1.0, ("a",)), Sample(2.0, ("a",))],
        [Sample(Distribution([1.0]).spread, ("a",))],
    ],
    ids=["no label", "a label too many", "twice", "of another kind"],
)
def test_a_reading_that_does_not_fit_its_declaration_is_refused(samples):
    with pytest.raises(BrokenMetric):
        metric(labels=("worker",), read=lambda _: samples).samples(None)


def test_two_tables_cannot_share_a_name():
    counter = metric("radixroute_things_total", Kind.COUNTER)
    for other in (counter, metric("radixroute_things")):
        with pytest.raises(BrokenMetric):
            Page(Part((counter,), lambda: 0), Part((other,), lambda: 0))


def test_a_value_falls_into_the_first_bucket_that_holds_it():
    seen = Distribution([0.1, 1.0])
    for value in (0.0, 0.1, 0.5, 1.0, 7.0):
        seen.observe(value)
    assert seen.spread.cumulative == [("0.1", 2), ("1.0", 4), ("+Inf", 5)]
    assert seen.spread.total == pytest.approx(8.6)


@pytest.mark.parametrize("bounds", [[], [1.0, 1.0], [2.0, 1.0]])
def test_bounds_rise(bounds):
    with pytest.raises(ValueError, match="rise"):
        Distribution(bounds)


def test_what_a_client_draws_makes_no_new_series_beyond_the_bound():
    names = FewNames(2)
    assert names.fold({"a": 1}) == {"a": 1}
    assert names.fold({"b": 2, "c": 3, "d": 4}) == {"b": 2, "other": 7}
    assert names.fold({"c": 3, "a": 1, "other": 1}) == {"other": 4, "a": 1}
    shown = {name for turn in range(1000) for name in names.fold({f"t{turn}": 1, "a": 1})}
    assert shown == {"a", "other"}


def test_the_page_about_metrics_is_that_of_the_tables():
    assert metrics_docs.PAGE.read_text() == metrics_docs.page(), (
        "run python -m tests.tools.metrics_docs"
    )
