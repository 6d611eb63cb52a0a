"""What is planted in what engines do with what they are sent, and in what clients send."""

from typing import Any

from radixroute.doctor.page import Page
from tests.doctor.evidences import PAGE, fleet, look, router, told
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


PLANTED_SERVING: dict[str, list[Any]] = {
    "engine_refuses": [
        of_pages(a=refusing(0, 40), b=refusing(4)),
        of_pages(a=refusing(0, 40), b=refusing(12, 500, status=500)),
    ],
    "worker_stuck": [
        of_pages(a=standing(0.1), b=standing(20.0)),
        of_pages(a=standing(0.1), b=standing(70.0, steps=0)),
    ],
    "requests_rejected": [rejecting(40), rejecting(12, fields_of(temperature=11, n=1))],
}
