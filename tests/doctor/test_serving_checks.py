"""What engines do with what they are sent, and what clients send: told of each as its own."""

from dataclasses import replace
from typing import Any

import pytest

from radixroute.doctor.check import Level
from radixroute.doctor.page import Page
from radixroute.doctor.table import diagnose
from tests.doctor.evidences import engine, entry, fleet, look, prefix, router, told, worker
from tests.doctor.planted_logs import cut, left, one_slow, starving, varying
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


def test_who_left_before_the_end_heard_of_no_cache_and_that_is_no_fault_of_an_engine():
    (found,) = diagnose(left(60))
    assert (found.code, found.where) == ("clients_leave", "clients")
    assert found.seen.startswith("60 of 60 requests were given up by their clients: 60 after a")
    assert diagnose(left(25)) == ()  # most had what they asked for


def test_what_begins_alike_for_less_than_a_block_is_a_matter_of_the_block():
    (found,) = diagnose(cut())
    assert found.code == "blocks_large"
    assert found.seen.startswith("blocks have 256 tokens; of 7,200 prompt tokens 0% could be")
    vllm = {name: told(engine_kind="vllm") for name in "ab"}
    (found,) = diagnose(fleet(replace(cut().router, told=vllm)))
    assert found.fix.startswith("start all engines with a smaller --block-size (")
    assert [one.code for one in diagnose(varying())] == ["prefix_varies"]


def scoped(*, answered):
    """Thirty tenants' requests refused, of engines that keep none apart; so many were not."""
    log = []
    for at in range(30 + answered):
        given: dict[str, Any] = {"apart": at % 3 + 1, "predicted_tokens": 0}
        if at < 30:
            given["outcome"] = "error"
        log.append(entry(at, "a", prefix(at), 0, **given))
        if at < 30:
            log[-1].ClearField("first_token_ns")
    now = look(counters={"requests_refused_by_worker": 30, "requests_failed": 30})
    kinds = {name: told(engine_kind="sglang") for name in "ab"}
    return fleet(router(now, log=tuple(log), told=kinds))


def test_requests_that_are_refused_for_their_scope_are_told_so():
    (found,) = diagnose(scoped(answered=0))
    assert found.code == "requests_fail"
    assert found.fix.startswith("those requests have a cache_salt, or a tenant with router.tenants")
    (found,) = diagnose(scoped(answered=1))
    assert found.fix.startswith("send one with curl")


def test_a_belief_that_fails_is_mended_by_its_setting_not_by_the_engine():
    now = look(workers=(worker("a"), worker("b", audit="drifted")))
    believed = {"a": told(), "b": told(cache_is_believed=True, engine_kind="openai")}
    (found,) = diagnose(fleet(router(now, told=believed)))
    assert (found.code, found.where) == ("audit_drifted", "b")
    assert found.fix.startswith("set companion.believed_blocks to")


def test_one_end_is_enough_where_steps_are_given_less_time_than_they_take():
    now = look(workers=(worker("a"), worker("b", deaths=1)))
    short = {"companion.progress_timeout_s": 0.3}
    (found,) = diagnose(fleet(router(now), settings=short, engines=(engine(),)))
    assert found.code == "worker_restarts"
    assert found.seen == "it ended once and is live"
    assert found.fix.startswith("raise companion.progress_timeout_s: it is 0.3 s")
    assert diagnose(fleet(router(now), engines=(engine(),))) == ()


def test_workers_that_a_router_gives_up_between_heartbeats_are_mended_at_the_router():
    now = look(workers=(worker("a"), worker("b", state="dead", deaths=4, reason="no heartbeat")))
    found = diagnose(fleet(router(now), settings={"router.dead_after_s": 0.2}))
    assert [one.code for one in found] == ["worker_restarts", "suspects_often"]
    assert found[0].fix.startswith("raise router.dead_after_s first: it is 0.2 s")


def test_first_tokens_of_a_few_milliseconds_are_no_slow_engine():
    """On a crowded machine one of two alike took 22 ms and the other 6.5."""
    assert diagnose(one_slow(22.0, usual_ms=6.5)) == ()
    assert [one.code for one in diagnose(one_slow(60.0, usual_ms=15.0))] == ["worker_slow"]
