"""What is planted: evidence of fleets, engines and machines with one thing wrong, by its code."""

from typing import Any

from radixroute.doctor.evidence import DiskSeen, FileSeen, Listener, PortSeen, StaleState
from radixroute.doctor.page import Page
from radixroute.protos import radixroute_pb2 as pb
from radixroute.worker.companions.join import findings
from tests.doctor.evidences import (
    PAGE,
    engine,
    fleet,
    hits,
    look,
    machine,
    of_engines,
    placed,
    router,
    statement,
    told,
    worker,
)
from tests.doctor.planted_engines import PLANTED_ENGINES
from tests.doctor.planted_logs import (
    by_turns,
    cut,
    forgetting,
    kept_apart,
    left,
    never_repeating,
    one_slow,
    overfull,
    spread_widely,
    starving,
    tenants_apart,
    untold,
    varying,
)
from tests.doctor.planted_pages import (
    answering,
    answers,
    cached_as,
    looks,
    of_pages,
    paced,
    steps,
)
from tests.doctor.planted_serving import PLANTED_SERVING, losing, refusing_for
from tests.doctor.planted_settings import PLANTED_SETTINGS


def with_worker(**changes: Any) -> Any:
    """`b` is changed; `a` is well."""
    return fleet(router(look(workers=(worker("a"), worker("b", **changes)))))


def refused(reason: str, **said: Any) -> Any:
    now = look(workers=(worker("a"), worker("b", state="refused", stream_state="", reason=reason)))
    return fleet(router(now, told={"a": told(), "b": told(**said)}))


def saying(**said: Any) -> Any:
    """`b` says so of itself."""
    return fleet(router(told={"a": told(), "b": told(**said)}))


def with_page(old: str, new: str) -> Any:
    assert old in PAGE
    return fleet(router(look(page=Page(PAGE.replace(old, new).encode()))))


def counted(**counters: int) -> Any:
    return fleet(router(look(counters=counters)))


def listening(kind: str, **changes: Any) -> Any:
    given = {"is_wide": True, "speaks_tls": True, "wants_key": True, **changes}
    one = Listener("a" if kind in ("worker", "compat") else "the door", kind, "10.0.0.9:1", **given)
    return fleet(router(listeners=(one,)))


def failing_engine(code: str) -> Any:
    return of_engines(engine(code))


PLANTED: dict[str, list[Any]] = {
    **PLANTED_SETTINGS,
    **PLANTED_ENGINES,
    **PLANTED_SERVING,
    **{code: [failing_engine(code)] for code in findings.CODES},
    "template_missing": [of_engines(engine(has_template_here=False))],
    "replay_buffer_small": [
        of_engines(engine(said=placed(buffer_steps=20))),
        of_engines(engine(kept_batches=12)),
    ],
    "replay_off": [of_engines(engine(said=placed(replay="")))],
    "event_hwm_small": [of_engines(engine(said=placed(hwm=10)))],
    "event_queue_small": [of_engines(engine(said=placed(queue_len=10)))],
    "event_port_open": [of_engines(engine(events_are_wide=True))],
    "engine_open": [of_engines(engine(is_open=True))],
    "several_engines": [of_engines(engine(lives=(1.5, 2.5)))],
    "same_engine_twice": [
        of_engines(engine(end="127.0.0.1:8000"), engine(end="127.0.0.1:8000")),
        of_engines(engine(event_ends=("127.0.0.1:5557",)), engine(event_ends=("127.0.0.1:5557",))),
        of_engines(
            engine(lives=(1.5,), steps=70, end="10.0.0.1:8000"),
            engine(lives=(1.5,), steps=72, end="10.9.0.1:8000", url="http://b"),
        ),
    ],
    "orphan_core": [of_engines(engine("unreachable", orphans=(77,)))],
    "engine_kv_pool_small": [of_engines(engine(said=statement(kv_blocks=255)))],
    "engines_differ": [
        of_engines(engine(), engine(said=statement(block_size=32, kv_blocks=2000), url="http://b")),
        of_engines(engine(), engine(said=statement(model="n"), url="http://b")),
        of_engines(engine(), engine(said=statement(kv_dtype="fp8"), url="http://b")),
        of_engines(cached_as("", ""), cached_as("fp8", "fp8", url="http://b")),
    ],
    "answers_differ": [
        of_engines(answering(1, 2, 3), answering(1, 3, 3, url="http://b")),
        of_engines(answering(1, 2, 3), answering(1, 90, 3, url="http://b")),
        of_engines(answering(1, 2, root="/m/x"), answering(1, 3, url="http://b", root="/m/y")),
    ],
    "roots_differ": [
        of_engines(
            engine(said=statement(root="/hub/m/snapshots/aa11")),
            engine(said=statement(root="/hub/m/snapshots/bb22"), url="http://b"),
        )
    ],
    "no_workers": [fleet(router(look(workers=(), hits=pb.HitRatesResponse())))],
    "none_serves": [
        fleet(router(look(workers=(worker("a", state="starting", stream_state=""),)))),
    ],
    "secret_differs": [
        refused("scope fingerprint 'a' is not 'b': give router and worker the same cluster_secret")
    ],
    "kv_dtype_differs": [
        refused("scope fingerprint 'a' is not 'b'", scope=pb.Scope(kv_dtype="float32"))
    ],
    "model_differs": [
        refused("model 'x' is not 'm'", model="x"),
        refused("scope fingerprint 'a' is not 'b'"),
    ],
    "max_model_len_differs": [refused("max_model_len 1024 is below the fleet's 4096: a request")],
    "worker_refused": [refused("worker id 'x' is not 'b'")],
    "worker_restarts": [
        with_worker(state="restarting", deaths=4, reason="out of memory"),
        fleet(router(look(workers=(worker("a"), worker("b", deaths=3))), age_s=100.0)),
        fleet(
            router(
                look(workers=(worker("a"), worker("b", deaths=2))),
                look(workers=(worker("a"), worker("b", deaths=1))),
            )
        ),
    ],
    "worker_down": [with_worker(state="dead", reason="the session broke", deaths=1)],
    "worker_suspect": [with_worker(state="suspect", reason="no heartbeat")],
    "suspects_often": [
        fleet(settings={"router.suspect_after_s": 0.1}),
        fleet(router(look(counters={"workers_suspected": 20}), age_s=600.0)),
    ],
    "breaker_open": [
        fleet(router(look(counters={"breakers_opened": 2}, page=Page()))),
        with_page('resting{worker="b"} 0', 'resting{worker="b"} 1'),
    ],
    "requests_given_up": [
        counted(requests_resumed=24),
        fleet(
            router(
                look(
                    counters={"requests_resumed": 24},
                    hits=pb.HitRatesResponse(workers=[hits("a")]),
                )
            )
        ),
    ],
    "worker_unreachable": [fleet(router(unreached=("b",)))],
    "versions_differ": [
        fleet(machine=machine(version="0.9")),
        fleet(router(told={"a": told(), "b": told(version="0.9")})),
        of_engines(engine(), engine(said=statement(version="0.31.0"), url="http://b")),
        refused("api version 2 is not 1"),
    ],
    "events_stale": [with_worker(stream_state="stale")],
    "events_behind": [with_worker(stream_state="gap"), with_worker(stream_state="resync")],
    "events_lost": [
        with_page('gaps_total{worker="a"} 1.0', 'gaps_total{worker="a"} 200.0'),
        losing("vllm", gaps=5),
        losing("vllm", gaps=0, unmended=1),
    ],
    "events_refused": [with_worker(rejected_batches=3)],
    "events_unread": [with_page("unread_total 0.0", "unread_total 9.0")],
    "events_off": [
        with_worker(indexed_blocks=0),
        saying(cache_is_believed=True, engine_kind="vllm"),
        fleet(
            router(
                look(
                    workers=(worker("a"), worker("b", indexed_blocks=0)),
                    hits=pb.HitRatesResponse(workers=[hits("a")]),
                )
            ),
            settings={"companion.allow_no_events": True},
        ),
    ],
    "hits_not_told": [untold(8), untold(0, **{"companion.allow_no_cached_tokens": True})],
    "certificate_bad": [
        fleet(certificate_problem="it has expired"),
        fleet(certificate_left_s=3600.0),
    ],
    "certificate_ends": [fleet(certificate_left_s=10 * 86_400.0)],
    "audit_drifted": [with_worker(audit="drifted", audit_differing=4, audit_reason="told 4")],
    "audit_differs": [with_worker(audit_differing=9)],
    "policy_unsuited": [by_turns("round_robin"), by_turns("random")],
    "hits_evicted": [forgetting(400), overfull()],
    "hits_below_reachable": [forgetting(4000)],
    "hits_spread": [spread_widely()],
    "scopes_split": [
        kept_apart(),
        kept_apart(**{"router.tenants_share_cache": False}),
        tenants_apart(),
    ],
    "prefix_varies": [varying()],
    "blocks_large": [cut(), cut(512)],
    "clients_leave": [left(), left(60)],
    "prompts_never_repeat": [never_repeating()],
    "requests_fail": [
        counted(requests_refused_by_worker=100, requests_failed=100, requests_rejected=100),
        counted(requests_accepted=0, http_requests_malformed=30),
        counted(requests_failed_by_worker=40, requests_failed=40),
    ],
    "requests_too_long": [counted(requests_refused_too_long=12)],
    "worker_slow": [
        one_slow(),
        of_pages(a=steps(90, 3), b=steps(2, 16)),
        of_engines(paced(0.01), paced(0.3, url="http://b")),
    ],
    "engine_shared": [of_pages(a=looks("crowded", 0), b=looks("crowded", 9))],
    "engine_queue_short": [of_pages(a=looks("queued", 2), b=looks("queued", 18, most=1))],
    "answers_at_once": [
        of_pages(a=answers(40, 1), b=answers(2, 30)),
        of_engines(paced(None, held_s=0.4)),
    ],
    "adapter_alone": [
        fleet(router(look(workers=(worker("a", adapters=["x"]), worker("b"))))),
        of_engines(engine(), engine(said=statement(adapters=("x",)), url="http://b")),
    ],
    "version_old": [
        of_engines(engine(said=statement(version="0.9.2"))),
        of_engines(engine(said=statement(kind="sglang", version="0.4.10.post2"))),
    ],
    "index_full": [counted(index_blocks_forgotten=3)],
    "kv_pool_small": [with_worker(kv_blocks_total=200)],
    "chats_unread": [
        counted(verbatim_requests=60, verbatim_requests_unread=50),
        fleet(
            router(look(counters={"verbatim_requests": 60, "verbatim_requests_unread": 60})),
            settings={"router.render_verbatim": False},
        ),
    ],
    "fields_dropped": [counted(http_fields_dropped=2)],
    "queue_full": [
        counted(requests_refused_queue_full=40),
        refusing_for("max_in_flight"),
        fleet(settings={"router.max_waiting": 3}),
    ],
    "connections_full": [counted(http_connections_too_many=1)],
    "requests_timed_out": [counted(requests_past_deadline=10)],
    "loop_late": [with_page('le="0.25"} 1000.0', 'le="0.25"} 900.0')],
    "worker_starved": [
        starving(),
        fleet(
            router(
                look(workers=(worker("a"), worker("b", idle_avoidable_ms=60_000))),
                look(workers=(worker("a"), worker("b", idle_avoidable_ms=59_000))),
            )
        ),
    ],
    "clients_without_key": [counted(requests_without_a_known_key=30)],
    "door_open": [listening("grpc", wants_key=False), listening("http", wants_key=False)],
    "door_in_clear": [listening("grpc", speaks_tls=False), listening("http", speaks_tls=False)],
    "metrics_open": [listening("metrics")],
    "worker_open": [listening("worker", speaks_tls=False)],
    "token_ids_open": [listening("compat")],
    "secret_file_open": [
        fleet(machine=machine(secrets=(FileSeen("router.keys_file", "/k", 0o644),)))
    ],
    "secret_file_missing": [
        fleet(machine=machine(secrets=(FileSeen("router.keys_file", "/k", 0, exists=False),)))
    ],
    "port_taken": [
        of_engines(machine=machine(ports=(PortSeen("router.http_port", "127.0.0.1:8000", "x"),)))
    ],
    "state_stale": [fleet(machine=machine(stale=(StaleState("blue", (7,)),)))],
    "folder_unsafe": [fleet(machine=machine(folder_problem="/r must be 0700"))],
    "disk_full": [
        fleet(machine=machine(disks=(DiskSeen("/tmp", 1 << 20),))),
        fleet(machine=machine(disks=(DiskSeen("/tmp", 1 << 40, 3),))),
    ],
    "shm_small": [
        fleet(machine=machine(shm_bytes=64 << 20)),
        fleet(machine=machine(shm_free_bytes=1 << 20)),
    ],
    "files_limited": [fleet(machine=machine(max_files=1024))],
    "memory_short": [fleet(settings={"worker.kv_memory": 12 << 30})],
    "threads_crowded": [fleet(settings={"worker.torch_threads": 2})],
    "zmq_old": [fleet(machine=machine(zmq_version=(4, 3, 1)))],
}
# What is so only together with something else.
BESIDE = {"orphan_core": {"unreachable"}}
