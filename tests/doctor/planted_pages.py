"""What is planted on pages of metrics, and in what engines answer and say of themselves."""

from typing import Any

from radixroute.doctor.page import Page
from radixroute.worker.companions.join.answering import Answered
from radixroute.worker.companions.join.pacing import Pace
from tests.doctor.evidences import PAGE, engine, fleet, router, statement


def answering(*token_ids: int, likely: float = -9.0, url: str = "http://a", **said: Any) -> Any:
    """An engine that answers so; `likely`: the log probability of every other token up to 3."""
    told = tuple(
        ((token_id, -0.1), *((one, likely) for one in range(4) if one != token_id))
        for token_id in token_ids
    )
    return engine(said=statement(**said), url=url, answers=(Answered(token_ids, told),))


def paced(token_s: float | None, *, held_s: float = 0.0, url: str = "http://a", **said: Any) -> Any:
    """An engine whose tokens come so."""
    pace = Pace(token_s, 14 if token_s else 0, held_s)
    return engine(said=statement(**said), url=url, pace=pace)


def cached_as(own: str, told: str | None, *, url: str = "http://a") -> Any:
    """An engine that says this KV dtype itself; `told`: as its worker would."""
    return engine(said=statement(kv_dtype=own), url=url, kv_dtype=told)


def of_pages(**lines: str) -> Any:
    """Each worker with a page of these lines."""
    pages = {name: Page(f"{PAGE}{page}\n".encode()) for name, page in lines.items()}
    return fleet(router(pages=pages))


def looks(found: str, n: int, *, most: int = 8) -> str:
    """A companion's, of 20."""
    name = "radixroute_companion_engine_looks_total"
    running = f"radixroute_companion_engine_most_running_requests {most}.0"
    return f'{name}{{found="any"}} 20.0\n{name}{{found="{found}"}} {n}.0\n{running}'


def answers(streamed: int, at_once: int) -> str:
    name = "radixroute_companion_long_answers_total"
    return f'{name}{{pace="streamed"}} {streamed}.0\n{name}{{pace="at_once"}} {at_once}.0'


def steps(quick: int, slow: int) -> str:
    """A worker's: of up to 10 ms, and of a tenth to a quarter of a second."""
    name = "radixroute_engine_step_seconds_bucket"
    counts = {"0.01": quick, "0.1": quick, "0.25": quick + slow, "+Inf": quick + slow}
    return "\n".join(f'{name}{{le="{bound}"}} {n}.0' for bound, n in counts.items())
