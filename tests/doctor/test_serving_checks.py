"""What engines do with what they are sent, and what clients send: told of each as its own."""

from dataclasses import replace

import pytest

from radixroute.doctor.check import Level
from radixroute.doctor.page import Page
from radixroute.doctor.table import diagnose
from tests.doctor.evidences import fleet, look, worker
from tests.doctor.planted_logs import starving
from tests.doctor.planted_pages import looks, of_pages
from tests.doctor.planted_serving import (
    fields_of,
    losing,
    missing,
    refusing,
    refusing_for,
    rejecting,
    standing,
)


@pytest.mark.parametrize(
    ("limit", "settings", "begins"),
    [
        ("max_in_flight", {}, "raise router.max_in_flight (requests that wait and run"),
        ("max_in_flight_tokens", {}, "raise router.max_in_flight_tokens ("),
        ("max_waiting_tokens", {}, "raise router.max_waiting_tokens ("),
        ("max_in_flight", {"router.max_in_flight": 8}, "raise router.max_in_flight: it is 8, its"),
    ],
)
def test_of_a_full_house_the_limit_that_refuses_is_named(limit, settings, begins):
    found = diagnose(refusing_for(limit, **settings))
    assert [one.code for one in found] == ["queue_full"]
    assert f"router.{limit}" in found[0].seen
    assert found[0].fix.startswith(begins)
    assert "max_waiting" not in found[0].fix or "max_waiting" in limit


def test_an_engine_that_refuses_is_told_with_its_status_and_starves_of_nothing_else():
    seen = starving().router
    pages = {"a": Page(refusing(0, 90).encode()), "b": Page(refusing(7).encode())}
    (found,) = diagnose(fleet(replace(seen, pages=pages)))
    assert (found.code, found.where) == ("engine_refuses", "b")
    assert "503 (Service Unavailable)" in found.seen
    assert "7 of 7 attempts" in found.seen


@pytest.mark.parametrize(
    "page", [refusing(2), refusing(9, 500), standing(14.0), standing(50.0, steps=0), missing(2)]
)
def test_engines_that_err_or_rest_for_a_moment_are_well(page):
    assert diagnose(of_pages(a=page, b=page)) == ()


def test_a_core_that_stands_still_has_no_short_queue_and_no_other_users():
    crowded = f"{standing(40.0)}\n{looks('queued', 18, most=1)}\n{looks('crowded', 18, most=1)}"
    evidence = of_pages(a=looks("queued", 2), b=crowded)
    suspect = look(workers=(worker("a"), worker("b", state="suspect")))
    found = diagnose(fleet(replace(evidence.router, now=suspect)))
    assert [(one.code, one.where) for one in found] == [("worker_stuck", "b")]
    assert found[0].fix.startswith("restart that engine")


def test_what_clients_send_wrong_is_theirs_with_the_field_and_without_what_is_told_elsewhere():
    (found,) = diagnose(rejecting(12, fields_of(temperature=11, worker=70)))
    assert (found.code, found.where, found.level) == (
        *("requests_rejected", "clients"),
        Level.WARNING,
    )
    assert "12 of 112 requests were rejected as they stand, most of them (11)" in found.seen
    assert "'temperature'" in found.fix
    (found,) = diagnose(rejecting(2, requests_refused_too_long=30))
    assert found.code == "requests_too_long"


@pytest.mark.parametrize(("kind", "name"), [("vllm", "that vLLM"), ("sglang", "that SGLang")])
def test_events_that_an_engine_loses_are_mended_by_its_own_flags(kind, name):
    (found,) = diagnose(losing(kind, gaps=4))
    assert (found.where, name in found.fix, "hwm" in found.fix) == ("b", True, True)
    assert "9 of 100 batches" in found.seen
    assert "a replay mended all" in found.seen
    (found,) = diagnose(losing(kind, gaps=4, unmended=2))
    assert "buffer_steps" in found.fix
