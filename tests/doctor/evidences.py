"""Evidence made by hand: of a fleet that is well, and with one thing changed."""

from dataclasses import replace
from typing import Any

import numpy as np

from radixroute.doctor.evidence import (
    EngineSeen,
    Evidence,
    Listener,
    Look,
    MachineSeen,
    RouterSeen,
)
from radixroute.doctor.page import Page
from radixroute.protos import radixroute_pb2 as pb
from radixroute.worker.companions.dialects.dialect import EventPlace, Statement
from radixroute.worker.companions.join.examination import Examination
from radixroute.worker.companions.join.findings import finding

BLOCK = 16
URL = "http://10.0.0.1:8000"
SETTINGS: dict[str, Any] = {
    "cluster.engine": "torch",
    "cluster.workers": 2,
    "worker.kv_memory": 512 << 20,
    "worker.torch_threads": 1,
    "router.max_waiting": 4096,
    "router.http_max_connections": 4096,
    "companion.allow_no_events": False,
}
PAGE = """\
radixroute_worker_resting{worker="a"} 0.0
radixroute_worker_resting{worker="b"} 0.0
radixroute_worker_stream_gaps_total{worker="a"} 1.0
radixroute_event_items_unread_total 0.0
radixroute_queue_requests{priority="5"} 3.0
radixroute_loop_lag_seconds_bucket{le="0.1"} 990.0
radixroute_loop_lag_seconds_bucket{le="0.25"} 1000.0
radixroute_loop_lag_seconds_bucket{le="+Inf"} 1001.0
"""


def worker(worker_id: str = "a", **changes: Any) -> pb.WorkerStatus:
    given: dict[str, Any] = {
        "worker_id": worker_id,
        "address": "127.0.0.1:41001",
        "state": "live",
        "stream_state": "live",
        "epoch": "00",
        "kv_blocks_total": 4000,
        "kv_blocks_used": 300,
        "indexed_blocks": 300,
        "audit": "agrees",
        "audit_judged": 50,
        **changes,
    }
    return pb.WorkerStatus(**given)


def hits(worker_id: str = "a", **changes: Any) -> pb.WorkerHits:
    given: dict[str, Any] = {
        "worker_id": worker_id,
        "requests": 50,
        "prompt_tokens": 50 * 100,
        "cached_tokens": 2000,
        "predicted_tokens": 2000,
        **changes,
    }
    return pb.WorkerHits(**given)


def told(**changes: Any) -> pb.GetInfoResponse:
    return pb.GetInfoResponse(
        **{"version": "1.0", "scope": pb.Scope(kv_dtype="bfloat16"), **changes}
    )


def entry(number: int, worker_id: str, keys: list[int], cached: int, **changes: Any) -> Any:
    """The request that came `number`-th: a block's tokens for each key, `cached` blocks told."""
    given: dict[str, Any] = {
        "number": number + 1,
        "worker_id": worker_id,
        "policy": "radix",
        "outcome": "stop",
        "block_size": BLOCK,
        "arrival_ns": number * 1000,
        "dispatched_ns": number * 1000 + 10,
        "first_token_ns": number * 1000 + 500,
        "prompt_tokens": len(keys) * BLOCK + 1,
        "cached_tokens": cached * BLOCK,
        "predicted_tokens": cached * BLOCK,
        "keys": np.array(keys, "<u8").tobytes(),
        **changes,
    }
    return pb.EndedRequest(**given)


def marks(*parts: tuple[int, int]) -> bytes:
    """Of a prompt that is put together of texts: each with its name and its tokens."""
    found, at = [], 0
    for text, n_tokens in parts:
        begins = range(0, max(0, n_tokens - 16), 64)
        found += [(at + begin) << 32 | (text * 1000 + begin // 64) for begin in begins]
        at += n_tokens
    return np.array(found, "<u8").tobytes()


def prefix(group: int, n_blocks: int = 8) -> list[int]:
    """Keys of a prompt that all of a group begin with."""
    return [1000 * (group + 1) + at for at in range(n_blocks)]


def well_served(n: int = 60, groups: int = 3) -> tuple[Any, ...]:
    """Every group at its worker, all but the first of each from its cache."""
    return tuple(
        entry(at, "ab"[at % groups % 2], prefix(at % groups), 0 if at < groups else 8)
        for at in range(n)
    )


def look(**changes: Any) -> Look:
    """`counters`, and whatever a `Look` has."""
    counters = changes.pop("counters", {})
    policy = changes.pop("policy", "radix")
    info = pb.RouterInfoResponse(
        version="1.0",
        model="m",
        policy=policy,
        block_size=BLOCK,
        max_model_len=4096,
        counters={"requests_accepted": 100, **counters},
    )
    given: dict[str, Any] = {
        "info": info,
        "workers": (worker("a"), worker("b")),
        "hits": pb.HitRatesResponse(workers=[hits("a"), hits("b")]),
        "page": Page(PAGE.encode()),
        **changes,
    }
    return Look(**given)


def router(now: Look | None = None, before: Look | None = None, **changes: Any) -> RouterSeen:
    """Both looks are `now`, unless `before` is given."""
    now = now or look()
    seen = RouterSeen(
        "127.0.0.1:50051",
        before or now,
        now,
        seconds=1.0,
        log=well_served(),
        told={"a": told(), "b": told()},
        pages={"a": Page(PAGE.encode())},
        listeners=(
            Listener("the gRPC door", "grpc", "127.0.0.1:50051", is_wide=False),
            Listener("the HTTP door", "http", "127.0.0.1:8000", is_wide=False),
            Listener("the router's metrics page", "metrics", "127.0.0.1:9464", is_wide=False),
            Listener("a", "worker", "127.0.0.1:41001", is_wide=False),
        ),
    )
    return replace(seen, **changes)


def statement(**changes: Any) -> Statement:
    place = EventPlace(
        *(0, "tcp://10.0.0.1:5557", "tcp://10.0.0.1:5558", "kv-events"),
        buffer_steps=10_000,
        hwm=100_000,
        queue_len=100_000,
    )
    given: dict[str, Any] = {
        "kind": "vllm",
        "model": "m",
        "version": "0.32.0",
        "max_model_len": 4096,
        "block_size": BLOCK,
        "kv_blocks": 4000,
        "kv_dtype": "bfloat16",
        "places": (place,),
        **changes,
    }
    return Statement(**given)


def placed(**changes: Any) -> Statement:
    """With another event place."""
    said = statement()
    return replace(said, places=(replace(said.places[0], **changes),))


def engine(*codes: str, said: Statement | None = None, **changes: Any) -> EngineSeen:
    """An engine with these findings of the join; `changes` of its examination."""
    url = changes.pop("url", URL)
    names = ("events_are_wide", "orphans", "end", "event_ends", "is_open")
    beside = {name: changes.pop(name) for name in names if name in changes}
    examination = Examination(
        url,
        findings=tuple(finding(code) for code in codes),
        statement=said or statement(),
        has_template_here=True,
        has_template_there=True,
        was_tried=True,
    )
    return EngineSeen(replace(examination, **changes), **{"events_are_wide": False, **beside})


def machine(**changes: Any) -> MachineSeen:
    given: dict[str, Any] = {
        "version": "1.0",
        "n_cpus": 2,
        "memory_bytes": 16 << 30,
        "shm_bytes": 8 << 30,
        "shm_free_bytes": 7 << 30,
        "max_files": 1 << 20,
        "zmq_version": (4, 3, 5),
        **changes,
    }
    return MachineSeen(**given)


def fleet(seen: RouterSeen | None = None, **changes: Any) -> Evidence:
    """A running cluster that is well but for what is given."""
    settings = {**SETTINGS, **changes.pop("settings", {})}
    given: dict[str, Any] = {
        "router": seen or router(),
        "machine": machine(),
        "settings": settings,
        "settings_are_its_own": True,
        **changes,
    }
    return Evidence(**given)


def of_engines(*engines: EngineSeen, **changes: Any) -> Evidence:
    """Engines before they are attached."""
    given: dict[str, Any] = {"engines": engines or (engine(),), "machine": machine(), **changes}
    return Evidence(**given)
