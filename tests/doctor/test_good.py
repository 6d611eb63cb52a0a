"""Fleets, engines and machines that are well: whatever their size and traffic, nothing is found."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.doctor.evidence import DiskSeen, Evidence, FileSeen, Listener, Look, RouterSeen
from radixroute.doctor.page import Page
from radixroute.doctor.table import diagnose
from radixroute.protos import radixroute_pb2 as pb
from tests.doctor.evidences import (
    BLOCK,
    SETTINGS,
    engine,
    entry,
    fleet,
    hits,
    look,
    machine,
    marks,
    of_engines,
    placed,
    prefix,
    router,
    statement,
    told,
    well_served,
    worker,
)
from tests.doctor.planted_serving import missing, refusing, standing

COUNTS = st.integers(0, 10_000)
POLICIES = ("radix", "radix_at_once", "dynamo_agentic", "llm_d", "vllm_kv_aware")


def test_nothing_is_wrong_with_what_is_well():
    assert diagnose(fleet()) == ()
    assert diagnose(of_engines()) == ()


def test_nothing_seen_is_nothing_wrong():
    assert diagnose(Evidence()) == ()
    empty = RouterSeen("", Look(), Look(workers=(worker(kv_blocks_total=0),)))
    assert diagnose(Evidence(router=empty)) == ()


@st.composite
def logs(draw):
    """Prompts of some groups, each group at one worker, whose cache has what it had. Some prompts
    are nobody else's, two of three at most, and some of a group come before its first one is
    computed."""
    n_workers, groups = draw(st.integers(1, 4)), draw(st.integers(1, 6))
    n_blocks, log, seen = draw(st.integers(1, 20)), [], set()
    for at in range(draw(st.integers(0, 120))):
        group = at % groups if at % 3 == 0 or draw(st.integers(0, 3)) else 100 + at
        cached = n_blocks if group in seen else 0
        # Others' words come again only where their prompts begin alike.
        texts = marks((group + 1, n_blocks * BLOCK))
        log.append(entry(at, f"w{group % n_workers}", prefix(group, n_blocks), cached, marks=texts))
        seen.add(group)
    return n_workers, log


@st.composite
def companions(draw):
    """A worker's page: an engine that errs now and then, rests, or loses a batch or two."""
    parts = [
        refusing(draw(st.integers(0, 9)), draw(st.integers(1, 10_000))),
        standing(draw(st.floats(0.0, 14.0))),
        missing(draw(st.integers(0, 2)), missed=draw(st.integers(0, 9))),
    ]
    return "\n".join(draw(st.lists(st.sampled_from(parts), unique=True)))


@st.composite
def good(draw):
    n_workers, log = draw(logs())
    names = [f"w{at}" for at in range(n_workers)]
    adapters = draw(st.sampled_from([(), ("x",), ("x", "y")]))
    pool = draw(st.integers(256, 10**6))  # of the least machine: others have up to thrice as much
    now = look(
        policy=draw(st.sampled_from(POLICIES)),
        counters={
            "requests_accepted": draw(COUNTS),
            "requests_resumed": draw(st.integers(0, 4)),
            "expected_blocks_lapsed": draw(COUNTS),
            "workers_died": draw(st.integers(0, 9)),
            "requests_refused_too_long": draw(st.integers(0, 4)),
            "requests_rejected": draw(st.integers(0, 4)),
            "requests_aborted_by_client": draw(COUNTS),
        },
        workers=tuple(
            worker(
                name,
                deaths=draw(st.integers(0, 9)),  # long ago: it lives
                in_flight=draw(st.integers(0, 64)),
                idle_planned_ms=draw(st.integers(0, 10**6)),
                kv_blocks_total=draw(st.integers(pool, 3 * pool)),
                adapters=adapters,
                audit=draw(st.sampled_from(["", "agrees"])),
                metrics_address="127.0.0.1:1",
            )
            for name in names
        ),
        hits=pb.HitRatesResponse(workers=[hits(name) for name in names]),
    )
    listeners = (
        Listener("the gRPC door", "grpc", "0.0.0.0:1", True, True, True),
        Listener("the HTTP door", "http", "0.0.0.0:2", True, True, True),
        *(Listener(name, "worker", "127.0.0.1:3", is_wide=draw(st.sampled_from([None, False])))
          for name in names),
    )  # fmt: skip
    seen = router(
        now,
        log=tuple(log),
        told={name: told() for name in names},
        listeners=listeners,
        age_s=draw(st.sampled_from([None, 1e6])),
        pages={name: Page(draw(companions()).encode()) for name in names},
    )
    here = machine(
        n_cpus=draw(st.integers(1, 64)),
        disks=(DiskSeen("/tmp", draw(st.integers(300 << 20, 1 << 50)), None),),
        secrets=(FileSeen("router.keys_file", "/k", draw(st.sampled_from([0o600, 0o400]))),),
        max_files=draw(st.integers(4352, 1 << 20)),
    )
    return fleet(seen, machine=here)


@settings(max_examples=150, deadline=None)
@given(good())
def test_no_good_fleet_has_a_finding(evidence):
    assert diagnose(evidence) == ()


@settings(max_examples=100, deadline=None)
@given(
    st.integers(1, 4),
    st.sampled_from([8, 16, 32, 64]),
    st.integers(1000, 10**6),
    st.sampled_from([None, 1000, 5000]),
    st.sampled_from([(None, None), (True, True), (False, False), (True, False), (True, None)]),
)
def test_no_good_engine_has_a_finding(n, block_size, batches, kept, templates):
    here, there = templates
    said = statement(
        block_size=block_size,
        kv_blocks=-(-4096 // block_size),
        places=placed(buffer_steps=batches, hwm=batches, queue_len=batches).places,
    )
    engines = [
        engine(
            said=said,
            url=f"http://10.0.0.{at}:8000",
            kept_batches=kept,
            has_template_here=here,
            has_template_there=there,
            events_are_wide=None,
        )
        for at in range(n)
    ]
    assert diagnose(of_engines(*engines)) == ()


@pytest.mark.parametrize("at_token", [True, False])
def test_requests_that_timed_out_say_nothing_of_caches(at_token):
    """Their time was over while they ran: nobody was told what they found."""
    cut = [entry(at, "a", prefix(0), 0, outcome="error") for at in range(60, 120)]
    for one in cut if not at_token else ():
        one.ClearField("first_token_ns")
    assert diagnose(fleet(router(log=(*well_served(), *cut)))) == ()
    assert diagnose(fleet(router(log=tuple(cut)))) == ()


def test_a_machine_whose_cluster_is_of_engines_has_no_pools_of_ours():
    settings_of = {
        **SETTINGS,
        "serve.engines": ["http://10.0.0.1:8000"],
        "worker.kv_memory": 1 << 50,
    }
    assert diagnose(fleet(settings=settings_of, machine=machine(shm_bytes=64 << 20))) == ()
    near = {**settings_of, "serve.engines": ["blue=http://127.0.0.1:1"]}
    found = diagnose(fleet(settings=near, machine=machine(shm_bytes=64 << 20)))
    assert [one.code for one in found] == ["shm_small"]
