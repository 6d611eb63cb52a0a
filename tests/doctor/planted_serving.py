"""What is planted in what engines do with what they are sent, and in what clients send."""

from typing import Any

from radixroute.doctor.page import Page
from radixroute.protos import radixroute_pb2 as pb
from tests.doctor.evidences import (
    PAGE,
    engine,
    entry,
    fleet,
    hits,
    look,
    of_engines,
    prefix,
    router,
    statement,
    told,
    well_served,
    worker,
)
from tests.doctor.planted_pages import of_pages

_COMPANION = "radixroute_companion"


def refusing(in_a_row: int, answered: int = 0, status: int = 503) -> str:
    """A companion whose engine answers so."""
    return "\n".join(
        (
            f'{_COMPANION}_errors_total{{status="{status}"}} {in_a_row}.0',
            f'{_COMPANION}_errors_total{{status="404"}} 90.0',
            f"{_COMPANION}_errors_in_a_row {in_a_row}.0",
            f'{_COMPANION}_attempts_total{{end="full"}} {in_a_row}.0',
            f'{_COMPANION}_attempts_total{{end="stop"}} {answered}.0',
        )
    )


def standing(still_s: float, steps: int = 70) -> str:
    """One whose engine made no step for so long."""
    return "\n".join(
        (
            f"{_COMPANION}_engine_still_seconds {still_s}",
            f'{_COMPANION}_engine_steps{{rank="0"}} {steps}.0',
            f'{_COMPANION}_attempts_total{{end="cancelled"}} 12.0',
        )
    )


def missing(gaps: int, unmended: int = 0, missed: int = 9) -> str:
    """One that its engine's events do not reach."""
    return "\n".join(
        (
            f"{_COMPANION}_event_gaps_total {gaps}.0",
            f"{_COMPANION}_event_gaps_unmended_total {unmended}.0",
            f"{_COMPANION}_event_batches_missed_total {missed}.0",
            f"{_COMPANION}_event_batches_total 91.0",
        )
    )


def rejecting(n: int, fields: str = "", **counters: int) -> Any:
    """A router whose clients send what it cannot take."""
    page = Page(f"{PAGE}{fields}\n".encode())
    counters = {"requests_rejected": n + sum(counters.values()), **counters}
    return fleet(router(look(counters=counters, page=page)))


def fields_of(**counts: int) -> str:
    name = "radixroute_requests_rejected_fields_total"
    return "\n".join(f'{name}{{field="{field}"}} {n}.0' for field, n in counts.items())


def refusing_for(limit: str, n: int = 40, **settings: int) -> Any:
    """A router that has no room, by this setting."""
    counters = {"requests_refused_queue_full": n, f"requests_refused_by_{limit}": n}
    return fleet(router(look(counters=counters)), settings=settings)


def losing(kind: str, **page: int) -> Any:
    """Events of an engine of this kind."""
    evidence = of_pages(a=missing(0, missed=0), b=missing(**page))
    evidence.router.told["b"].CopyFrom(told(engine_kind=kind))
    return evidence


def keeping_none(kind: str = "openai", cached: int = 0) -> Any:
    """`b` has the same prompts again and again, and tells of none that it had them."""
    log = [entry(at, "b", prefix(at % 2), cached, predicted_tokens=0) for at in range(30)]
    now = look(
        workers=(worker("a"), worker("b", audit="", audit_judged=0)),
        hits=pb.HitRatesResponse(workers=[hits("a"), hits("b", requests=30, cached_tokens=0)]),
    )
    return fleet(router(now, log=tuple(log), told={"a": told(), "b": told(engine_kind=kind)}))


def sharing(scopes: int, *, predicted: int = 0, **changes: Any) -> Any:
    """The first request of each of so many salts is told eight cached blocks at `b`."""
    log = [*well_served()]
    for at in range(3 * scopes):
        given = {"apart": at % scopes + 1, "predicted_tokens": predicted if at < scopes else 128}
        log.append(entry(100 + at, "b", prefix(50 + at % scopes), 8, **given))
    now = look(workers=(worker("a"), worker("b", **changes)))
    kinds = {"a": told(engine_kind="vllm"), "b": told(engine_kind="vllm")}
    return fleet(router(now, log=tuple(log), told=kinds))


def pooled(*blocks: int, kinds: tuple[str, ...] = (), ranks: int = 1) -> Any:
    """Workers with pools of so many blocks; the first has so many ranks."""
    names = "abcd"[: len(blocks)]
    now = look(
        workers=tuple(worker(one, kv_blocks_total=n) for one, n in zip(names, blocks, strict=True)),
        hits=pb.HitRatesResponse(workers=[hits(one) for one in names]),
    )
    saying = {one: told(engine_kind=kind) for one, kind in zip(names, kinds, strict=False)}
    saying.setdefault("a", told()).ranks = ranks
    return fleet(router(now, told=saying))


PLANTED_SERVING: dict[str, list[Any]] = {
    "engine_refuses": [
        of_pages(a=refusing(0, 40), b=refusing(4)),
        of_pages(a=refusing(0, 40), b=refusing(12, 500, status=500)),
    ],
    "worker_stuck": [
        of_pages(a=standing(0.1), b=standing(20.0)),
        of_pages(a=standing(0.1), b=standing(70.0, steps=0)),
    ],
    "keeps_nothing": [keeping_none(), keeping_none("vllm")],
    "salts_ignored": [sharing(3), sharing(5, audit="drifted", audit_differing=30)],
    "pools_uneven": [
        pooled(4000, 300),
        pooled(4000, 5000, 1000),
        of_engines(engine(), engine(said=statement(kv_blocks=300), url="http://b")),
    ],
    "requests_rejected": [rejecting(40), rejecting(12, fields_of(temperature=11, n=1))],
}
