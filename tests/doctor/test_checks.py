"""Each check finds what it is for in evidence that has it, and nothing else finds anything."""

from dataclasses import replace
from typing import Any

import pytest

from radixroute.doctor.check import Level
from radixroute.doctor.kinds.attaching.weights import roots_alike
from radixroute.doctor.page import Page
from radixroute.doctor.table import CHECKS, CODES, diagnose
from radixroute.worker.companions.join import findings
from radixroute.worker.companions.join.findings import finding
from tests.doctor.evidences import (
    engine,
    entry,
    fleet,
    look,
    machine,
    marks,
    of_engines,
    prefix,
    router,
    statement,
    told,
    worker,
)
from tests.doctor.planted import (
    BESIDE,
    PLANTED,
    counted,
    listening,
    refused,
    with_worker,
)
from tests.doctor.planted_logs import one_slow, overfull
from tests.doctor.planted_pages import answering, answers, looks, of_pages, steps

CASES = [(code, at) for code, cases in PLANTED.items() for at in range(len(cases))]


@pytest.mark.parametrize(("code", "at"), CASES)
def test_what_is_planted_is_found_and_nothing_else(code, at):
    found = diagnose(PLANTED[code][at])
    assert {one.code for one in found} - BESIDE.get(code, set()) == {code}
    assert all(one.seen and one.why and one.fix for one in found)


def test_every_check_is_planted():
    assert set(PLANTED) == CODES


def test_codes_are_told_apart_and_sentences_are_whole():
    assert len(CODES) == len(CHECKS)
    for check in CHECKS:
        assert check.about
        assert check.why
        assert check.fix
        assert not check.fix.endswith(".")


def test_errors_come_first():
    evidence = fleet(machine=machine(shm_bytes=1, folder_problem="x", version="2"))
    levels = [one.level for one in diagnose(evidence)]
    assert levels == sorted(levels, key=lambda one: one is not Level.ERROR)
    assert len(set(levels)) == 2


@pytest.mark.parametrize("code", findings.CODES)
def test_what_a_worker_could_not_join_for_is_found_in_its_reason(code):
    reason = f"engine http://10.0.0.1:8000: {finding(code, 'a detail').text}"
    found = diagnose(with_worker(state="restarting", stream_state="", deaths=5, reason=reason))
    assert [one.code for one in found] == [code]
    assert found[0].where == "b"
    assert "a detail" in found[0].seen


@pytest.mark.parametrize(
    ("reason", "code", "fix"),
    [
        ("block size 32 is not 16", "block_size_differs", "worker.block_size"),
        ("tokenizer fingerprint 'a' is not 'b'", "tokenizer", "companion.model"),
    ],
)
def test_a_router_that_refuses_for_a_reason_of_the_join_has_its_code(reason, code, fix):
    found = diagnose(refused(reason))
    assert [one.code for one in found] == [code]
    assert fix in found[0].fix


@pytest.mark.parametrize(
    ("most", "is_own", "begins"),
    [(4, True, "raise router.max_waiting: it is 4,"), (4, False, "add"), (4096, True, "add")],
)
def test_a_queue_that_is_made_small_is_mended_by_its_setting_first(most, is_own, begins):
    """Who was refused is counted once: 4 of 80 were not."""
    seen = router(look(counters={"requests_refused_queue_full": 76, "requests_accepted": 4}))
    evidence = fleet(seen, settings={"router.max_waiting": most}, settings_are_its_own=is_own)
    found = diagnose(evidence)
    assert [one.code for one in found] == ["queue_full"]
    assert "76 of 80 " in found[0].seen
    assert found[0].fix.startswith(begins)


def test_who_was_refused_for_his_deadline_is_among_those_who_asked():
    found = diagnose(counted(requests_refused_hopeless_deadline=100, requests_accepted=50))
    assert [one.seen for one in found] == ["100 of 150 requests ended for want of time"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ({"end": "127.0.0.1:8000"}, {"end": "127.0.0.1:8001"}),
        ({"event_ends": ("127.0.0.1:1",)}, {"event_ends": ("127.0.0.1:2",)}),
        # A port of containers that is published twice: the events of one, not one engine.
        (
            {"event_ends": ("127.0.0.1:1",), "lives": (1.5,)},
            {"event_ends": ("127.0.0.1:1",), "lives": (9.5,)},
        ),
        # Started by one script at one moment, on one machine.
        (
            {"end": "127.0.0.1:8000", "lives": (1.5,), "steps": 7},
            {"end": "127.0.0.1:8001", "lives": (1.5,), "steps": 7},
        ),
        (
            {"end": "10.0.0.1:8000", "lives": (1.5,), "steps": 7},
            {"end": "10.0.0.2:8000", "lives": (1.6,), "steps": 7},
        ),
    ],
)
def test_two_engines_are_not_taken_for_one(first, second):
    assert diagnose(of_engines(engine(**first), engine(url="http://b", **second))) == ()


def test_what_most_requests_end_with_is_told_with_its_share():
    """A door counts as rejected what a worker refused, too."""
    counters = {"requests_refused_by_worker": 90, "requests_rejected": 95}
    plain = {"a": told(engine_kind="openai"), "b": told(engine_kind="openai")}
    (found,) = diagnose(fleet(router(look(counters=counters), told=plain)))
    assert found.code == "requests_fail"
    assert found.seen.startswith("90 of 100 requests ended with an error (90%); 90 of them: its")
    assert "worker_refused" in found.seen
    assert "ignore_eos" in found.fix


def test_what_failed_before_somebody_mended_it_is_not_told():
    before = look(counters={"requests_refused_by_worker": 90})
    now = look(counters={"requests_refused_by_worker": 90, "requests_finished": 40})
    assert diagnose(fleet(router(now, before))) == ()


@pytest.mark.parametrize(
    ("kind", "flag", "other"),
    [
        ("vllm", "--gpu-memory-utilization", "--kv-memory"),
        ("torch", "--kv-memory", "--gpu-memory"),
        ("sglang", "--mem-fraction-static", "--kv-memory"),
    ],
)
def test_more_room_is_asked_for_with_the_flag_that_the_engine_has(kind, flag, other):
    of_kind = {"a": told(engine_kind=kind), "b": told(engine_kind=kind)}
    small = look(workers=(worker("a"), worker("b", kv_blocks_total=200)))
    for evidence in (fleet(replace(overfull().router, told=of_kind)),
                     fleet(router(small, told=of_kind))):  # fmt: skip
        (found,) = diagnose(evidence)
        assert flag in found.fix
        assert other not in found.fix


def test_caches_that_are_too_small_for_the_traffic_say_how_much_came():
    (found,) = diagnose(overfull())
    assert found.seen.startswith("4,800 different blocks came, and caches have room for 1,600; of")


def test_a_small_pool_of_an_engine_that_is_seen_is_told_once():
    seen = router(look(workers=(worker("a", kv_blocks_total=200),)))
    found = diagnose(fleet(seen, engines=(engine(said=statement(kv_blocks=200)),)))
    assert [one.code for one in found] == ["engine_kv_pool_small"]


def test_two_engines_that_name_one_event_port_are_told_as_that_alone():
    ends: Any = {"event_ends": ("127.0.0.1:1",)}
    found = diagnose(of_engines(engine(**ends), engine("events_differ", url="http://b", **ends)))
    assert [(one.code, one.where) for one in found] == [("events_differ", "http://b")]
    reason = f"engine http://b: {finding('events_differ', 'x').text}"
    away = look(workers=(worker("a"), worker("b", state="restarting", reason=reason)))
    found = diagnose(fleet(router(away), engines=(engine(**ends), engine(url="http://b", **ends))))
    assert [(one.code, one.where) for one in found] == [("events_differ", "b")]


def test_versions_of_different_products_are_not_compared():
    other = statement(kind="sglang", version="0.5.23")
    assert diagnose(of_engines(engine(), engine(said=other, url="http://b"))) == ()


@pytest.mark.parametrize(
    "others",
    [
        answering(1, 2, 3),
        answering(1, 3, 90, likely=-0.3),  # a near tie, and what follows from it
        answering(1, 3, 3, model="other"),
    ],
)
def test_answers_that_differ_by_a_tie_or_of_other_models_are_no_finding(others):
    found = diagnose(of_engines(answering(1, 2, 3, url="http://b"), others))
    assert "answers_differ" not in {one.code for one in found}


def test_one_model_in_folders_of_several_machines_is_one_root():
    said = [statement(root=root) for root in ("/data/m/llama", "/mnt/x/llama/")]
    assert diagnose(of_engines(*(engine(said=one) for one in said))) == ()
    # What answers alike is alike, whatever its folder is called.
    alike = [answering(1, 2, root="/m/x"), answering(1, 2, url="http://b", root="/m/y")]
    assert diagnose(of_engines(*alike)) == ()
    ((where, said_of_it),) = roots_alike(of_engines(*alike))
    assert where == "http://b"
    assert said_of_it.startswith("its model is of /m/y, that of http://a of /m/x; both answered")
    other = [alike[0], answering(1, 3, url="http://b", root="/m/y")]
    assert list(roots_alike(of_engines(*other))) == []  # that is an error


@pytest.mark.parametrize(
    "pages",
    [
        {"a": looks("queued", 18, most=7), "b": looks("queued", 18)},  # all are full
        {"a": looks("queued", 9, most=1), "b": looks("queued", 1)},
        {"a": looks("crowded", 5), "b": looks("crowded", 5)},
        {"a": answers(30, 20), "b": answers(0, 9)},
        {"a": steps(90, 0), "b": steps(20, 16)},  # long prompts among them
        {"a": steps(0, 40), "b": steps(0, 40)},
        {"a": steps(90, 0), "b": steps(0, 9)},
    ],
)
def test_what_pages_show_of_engines_that_are_well_is_no_finding(pages):
    assert diagnose(of_pages(**pages)) == ()


def test_an_engine_that_others_keep_busy_is_told_though_it_is_suspect():
    pages = {"b": Page(looks("crowded", 18).encode())}
    away = look(workers=(worker("a"), worker("b", state="suspect", reason="no step")))
    found = diagnose(fleet(router(away, pages=pages)))
    assert [(one.code, one.where) for one in found] == [
        ("worker_suspect", "b"),
        ("engine_shared", "b"),
    ]


def test_chats_that_nobody_reads_cost_nothing_where_they_are_few_or_all_go_to_one():
    counters = {"verbatim_requests": 60, "verbatim_requests_unread": 50}
    assert diagnose(fleet(router(look(counters=counters, workers=(worker("a"),))))) == ()
    few = {**counters, "requests_accepted": 2000}
    assert diagnose(fleet(router(look(counters=few)))) == ()


def test_first_tokens_that_wait_for_a_proxy_are_not_a_slow_engine():
    pages = {"b": Page(answers(1, 30).encode())}
    found = diagnose(fleet(replace(one_slow().router, pages=pages)))
    assert [one.code for one in found] == ["answers_at_once"]


@pytest.mark.parametrize(
    ("given", "begins"), [(0.4, "raise companion.progress_timeout_s: it is 0.4"), (30.0, "see")]
)
def test_an_engine_that_is_given_up_for_want_of_a_step_has_the_patience_named(given, begins):
    evidence = with_worker(state="restarting", deaths=6, reason="the engine makes no step")
    settings = {**evidence.settings, "companion.progress_timeout_s": given}
    (found,) = diagnose(replace(evidence, settings=settings))
    assert found.fix.startswith(begins)
    assert "companion.progress_timeout_s" in found.fix


def test_a_short_patience_is_named_while_a_worker_that_ends_again_and_again_is_live():
    now = look(workers=(worker("a"), worker("b", deaths=6)))
    settings = {"companion.progress_timeout_s": 0.4}
    seen = router(now, age_s=60.0)
    (found,) = diagnose(fleet(seen, settings=settings, engines=(engine(),)))
    assert found.fix.startswith("raise companion.progress_timeout_s")
    (found,) = diagnose(fleet(seen, engines=(engine(),)))
    assert found.fix.startswith("read its log")


def test_a_worker_that_asks_who_comes_may_be_reached():
    assert diagnose(listening("worker", speaks_tls=True)) == ()


def test_a_certificate_with_weeks_left_is_well():
    assert diagnose(fleet(certificate_left_s=30 * 86_400.0)) == ()


def test_an_engine_and_the_worker_beside_it_are_one_finding():
    reason = f"engine http://10.0.0.1:8000: {finding('events').text}"
    evidence = fleet(
        router(look(workers=(worker("a"), worker("b", state="starting", reason=reason)))),
        engines=(engine("events"),),
    )
    assert [(one.code, one.where) for one in diagnose(evidence)] == [
        ("events", "http://10.0.0.1:8000")
    ]


def test_a_plain_server_has_no_events_by_nature():
    said = {"a": told(), "b": told(engine_kind="openai", cache_is_believed=True)}
    now = look(workers=(worker("a"), worker("b", indexed_blocks=0, audit="believed")))
    assert diagnose(fleet(router(now, told=said))) == ()


def test_a_policy_that_needs_no_events_is_not_told_that_there_are_none():
    evidence = fleet(
        router(look(policy="prefix_approx", workers=(worker("a", indexed_blocks=0),))),
        settings={"companion.allow_no_events": True},
    )
    assert diagnose(evidence) == ()


def test_a_worker_somewhat_slower_is_no_finding():
    assert diagnose(one_slow(ms=250.0)) == ()
    assert "4.0 times" in diagnose(one_slow(ms=400.0))[0].seen


@pytest.mark.parametrize("version", ["0.10.2", "0.32.0+cpu", "1.0", "0.1.dev12345+gabc", "", "x"])
def test_versions_that_are_new_enough_or_unknown_are_well(version):
    assert diagnose(of_engines(engine(said=statement(version=version)))) == ()


def test_the_main_cause_is_named_first_with_its_share():
    """Half of the prompts have a salt of their own: what they repeat is 49 % of all tokens."""
    (found,) = diagnose(PLANTED["scopes_split"][0])
    assert "30 salts keep requests apart" in found.seen
    assert found.seen.split("; ")[2].startswith("50% repeat what a request of another salt")


def test_tenants_that_each_reuse_their_own_are_no_finding():
    log = [
        entry(at, "a", prefix(at % 2, 40), 40 * (at > 1), apart=at % 2 + 1, marks=marks((7, 641)))
        for at in range(60)
    ]
    assert diagnose(fleet(router(log=tuple(log)))) == ()


def test_what_all_prompts_end_with_alike_is_no_varying_beginning():
    """A question of a line behind a text of each one's own that comes again."""
    log = [
        entry(at, "a", prefix(at % 6, 40), 40 * (at > 5), marks=marks((at % 6, 600), (99, 41)))
        for at in range(60)
    ]
    assert diagnose(fleet(router(log=tuple(log)))) == ()


def test_who_waits_behind_others_is_not_slow():
    """Each second `a` gets one prompt, and `b` six at once, which it computes one by one."""
    log = []
    for at in range(84):
        sent, turn = at // 7 * 1_000_000_000, at % 7
        where, taken = ("a", 100) if turn == 0 else ("b", 100 * turn)
        ends = {"dispatched_ns": sent + turn, "first_token_ns": sent + taken * 1_000_000}
        log.append(entry(at, where, prefix(turn > 0, 9), 8 if at > 6 else 0, **ends))
    assert diagnose(fleet(router(log=tuple(log)))) == ()
