"""What is planted in what several engines say of themselves."""

from typing import Any

from tests.doctor.evidences import engine, fleet, look, of_engines, router, statement, told, worker

A, B = "http://127.0.0.1:8000", "http://127.0.0.1:8001"
EVENTS = {"companion.events": "tcp://10.0.0.1:5557"}


def named(name: str, root: str = "", url: str = B, kind: str = "vllm", **seen: Any) -> Any:
    """An engine that serves a model under this name."""
    return engine(
        *seen.pop("codes", ()), said=statement(model=name, root=root, kind=kind), url=url, **seen
    )


def refused_as(reason: str, own: Any, *, told_of: dict[str, Any]) -> Any:
    """A cluster of two engines whose second one the router refuses, with what both say."""
    workers = (worker("engine-0"), worker("engine-1", state="refused", reason=reason))
    saying = {"engine-0": told(model="m", engine_kind="vllm"), "engine-1": told(**told_of)}
    served = {"serve.engines": [A, B]}
    first = named("m", "/hub/m-7b", url=A)
    seen = router(look(workers=workers), told=saying)
    return fleet(seen, engines=(first, own), settings=served)


def sharing_events(*codes: str) -> Any:
    return of_engines(engine(), engine(*codes, url=B), settings=EVENTS)


PLANTED_ENGINES: dict[str, list[Any]] = {
    "events_shared": [sharing_events(), sharing_events("events_differ")],
}
