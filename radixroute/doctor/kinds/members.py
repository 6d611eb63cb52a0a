"""Workers that do not serve, or not well: away, silent, restarting, resting, alone."""

from collections.abc import Iterator, Sequence
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.flags import ADAPTERS, NAMES
from radixroute.doctor.kinds.attaching.joining import join_code
from radixroute.doctor.kinds.refusals import SERVING, workers_of
from radixroute.doctor.kinds.serving.answering import does_nothing, is_stuck, serving_pages
from radixroute.doctor.page import Page
from radixroute.protos import radixroute_pb2 as pb
from radixroute.worker.companions.health import STUCK
from radixroute.worker.companions.settings import CompanionSettings

COMING: Final = ("starting", "restarting", "joining")
CIRCLES: Final = 3  # deaths; one or two may be somebody's doing
CIRCLE_S: Final = 600.0  # between two of them, on average
# Requests: an engine that answers with errors, or whose connections break.
GIVEN_UP: Final = 5
GIVEN_UP_SHARE: Final = 0.05
MOVED_BY_A_DEATH: Final = 64
OFTEN: Final = 10  # suspicions
A_STEP_S: Final = 2.0  # a step with a part of a long prompt in it may take as long
# Seconds: heartbeats come each 0.25 s, and one that is late is no silence.
LEAST_PATIENCE: Final = (("router.suspect_after_s", 0.5), ("router.dead_after_s", 1.0))


def _no_workers(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is not None and not router.now.workers:
        yield Seen("router", f"{router.address} knows of no worker")


def _none_serves(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None or not router.now.workers:
        return
    if not any(one.state in SERVING for one in router.now.workers):
        states = sorted({one.state for one in router.now.workers})
        yield Seen("router", f"its {len(router.now.workers)} workers are {', '.join(states)}")


def _suspect(evidence: Evidence) -> Iterator[Seen]:
    for router, one in workers_of(evidence):
        if one.state == "suspect" and not is_stuck(router.pages.get(one.worker_id, Page())):
            yield Seen(one.worker_id, one.reason or "it is suspect: silent, or without a step")


def _circles(router: RouterSeen, one: pb.WorkerStatus) -> bool:
    before = router.before.worker(one.worker_id)
    rose = before is not None and one.deaths > before.deaths
    is_away = one.state not in SERVING
    is_often = router.age_s is not None and router.age_s < CIRCLE_S * one.deaths
    return join_code(one.reason) is None and (
        (one.deaths >= CIRCLES and (is_away or is_often)) or (rose and one.deaths >= 2)
    )


def _restarts(evidence: Evidence) -> Iterator[Seen]:
    for router, one in workers_of(evidence):
        if one.state != "refused" and (_circles(router, one) or _is_hurried(evidence, one)):
            why = f": {one.reason}" if one.reason else ""
            times = "once" if one.deaths == 1 else f"{one.deaths} times"
            what = f"it ended {times} and is {one.state}{why}"
            fix = _patience(evidence, one) or _router_patience(evidence)
            yield Seen(one.worker_id, what, fix)


def _is_hurried(evidence: Evidence, one: pb.WorkerStatus) -> bool:
    """It was given up for a step that took longer than its companion waits: one is enough."""
    given = evidence.setting("companion.progress_timeout_s", A_STEP_S)
    is_short = evidence.settings_are_its_own and given < A_STEP_S and bool(evidence.engines)
    return is_short and one.deaths > 0 and (STUCK in one.reason or not one.reason)


def _router_patience(evidence: Evidence) -> str:
    """What mends workers that a router gives up between two heartbeats; empty: it does not."""
    key, least = LEAST_PATIENCE[1]
    given = evidence.setting(key, least)
    if not evidence.settings_are_its_own or not 0 < given < least:
        return ""
    return f"raise {key} first: it is {given:g} s, and heartbeats come each 0.25 s"


def _patience(evidence: Evidence, one: pb.WorkerStatus) -> str:
    """What mends one that ends because its engine makes no step, as its reason says while it is
    away, or a short patience suggests; empty: it is not that."""
    usual = CompanionSettings().progress_timeout_s
    given = evidence.setting("companion.progress_timeout_s", usual)
    is_short = evidence.settings_are_its_own and given < usual
    if is_short and (STUCK in one.reason or (not one.reason and evidence.engines)):
        return (
            f"raise companion.progress_timeout_s: it is {given:g} s, its default {usual:g}, and a "
            "step may take as long; where one takes longer than that, the engine stands still: "
            "read its log"
        )
    if STUCK not in one.reason:
        return ""
    return (
        "see whether the engine stands still (its log, GPU, swap); where its steps take about "
        f"{given:g} s, raise companion.progress_timeout_s"
    )


def _down(evidence: Evidence) -> Iterator[Seen]:
    for router, one in workers_of(evidence):
        if _circles(router, one) or join_code(one.reason) is not None:
            continue
        if _is_hurried(evidence, one):
            continue
        if one.state == "dead" or (one.state in COMING and one.reason):
            yield Seen(one.worker_id, f"it is {one.state}: {one.reason or 'no reason is told'}")


def _resting(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    n = router.count("breakers_opened")
    resting = router.now.page.by("radixroute_worker_resting", "worker")
    for worker_id, value in resting.items():
        if value:
            yield Seen(worker_id, f"it is left alone; breakers of this router opened {n} times")
    if n and not resting:  # a router without a page says no more
        yield Seen("router", f"breakers opened {n} times")


def _given_up(evidence: Evidence) -> Iterator[Seen]:
    """Requests that moved though nobody died: their engine gave them up."""
    router = evidence.router
    if router is None:
        return
    moved, accepted = router.count("requests_resumed"), router.count("requests_accepted")
    if any(does_nothing(page) for _, page in serving_pages(evidence)):
        return  # that is who
    of_deaths = MOVED_BY_A_DEATH * router.count("workers_died")
    if moved < max(GIVEN_UP, GIVEN_UP_SHARE * accepted) or moved <= of_deaths:
        return
    served = {one.worker_id for one in router.now.hits.workers if one.requests}
    live = [one.worker_id for one in router.now.workers if one.state == "live"]
    idle = [worker_id for worker_id in live if worker_id not in served]
    where = idle[0] if len(idle) == 1 and len(live) > 1 else "router"
    what = "it answered none" if where != "router" else "its workers live"
    yield Seen(where, f"{moved:,} of {accepted:,} requests went on elsewhere, and {what}")


def _flaps(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    for key, least in LEAST_PATIENCE:
        if evidence.settings_are_its_own and 0 < (given := evidence.setting(key, least)) < least:
            yield Seen("router", f"{key} is {given:g} s, and heartbeats come each 0.25 s")
    n = router.count("workers_suspected")
    is_often = router.age_s is not None and router.age_s < 60.0 * n
    if n >= OFTEN and is_often:
        yield Seen("router", f"it suspected workers {n} times")


def _unreached(evidence: Evidence) -> Iterator[Seen]:
    for router, one in workers_of(evidence):
        if one.worker_id in router.unreached and one.state == "live":
            yield Seen(one.worker_id, f"{one.address} answers its router, and nothing here")


def _alone(evidence: Evidence) -> Iterator[Seen]:
    """Adapters that only one of several has: workers, else engines before they are attached."""
    router = evidence.router
    served = {one.worker_id: set(one.adapters) for one in (router.live if router else ())}
    kinds = {name: told.engine_kind for name, told in router.told.items()} if router else {}
    if not served:
        said = [(one.url, one.examination.statement) for one in evidence.engines]
        served = {url: set(one.adapters) for url, one in said if one is not None}
        kinds = {url: one.kind for url, one in said if one is not None}
    for name in sorted(set().union(*served.values())) if len(served) > 1 else ():
        having = [where for where, names in served.items() if name in names]
        if len(having) == 1:
            lacking = sorted({kinds.get(where, "") for where in served if where not in having})
            what = f"of {len(served)} it alone serves the adapter {name!r}"
            yield Seen(having[0], what, _with_adapters(lacking))


def _with_adapters(kinds: Sequence[str]) -> str:
    """By the flags of those that lack it; empty: of some nobody knows them."""
    if not set(kinds) <= ADAPTERS.keys():
        return ""
    flags = ", ".join(f"{NAMES[kind]} with the same {ADAPTERS[kind]}" for kind in kinds)
    return f"start the others ({flags}){_WHERE_MEANT}"


_WHERE_MEANT: Final = "; where one is meant to be enough, leave this out with --ignore"


MEMBER_CHECKS: Final = (
    Check(
        "no_workers",
        Level.ERROR,
        "the router has no workers",
        "every request waits and ends with UNAVAILABLE",
        "give it some: `radixroute serve --engine URL`, or `radixroute up --workers N`",
        _no_workers,
    ),
    Check(
        "none_serves",
        Level.ERROR,
        "no worker serves",
        "every request waits and ends with UNAVAILABLE",
        "mend what the other findings say of the workers; their logs are in the folder that `up` "
        "printed, those of engines where they run",
        _none_serves,
    ),
    Check(
        "worker_restarts",
        Level.ERROR,
        "a worker ends again and again",
        "each time its cache is lost and its requests move",
        "read its log (`up` printed the folder, an engine's is where it runs): a start that runs "
        "out of memory or time comes again until that is mended",
        _restarts,
    ),
    Check(
        "worker_down",
        Level.ERROR,
        "a worker is away",
        "the others carry its load, and what it had cached is lost",
        "start its engine, or mend its address; one that is gone for good: leave out its --engine",
        _down,
    ),
    Check(
        "worker_suspect",
        Level.WARNING,
        "a worker is suspect",
        "it keeps its requests and gets no new ones",
        "see whether its process stands still (CPU, swap, network); raise router.suspect_after_s "
        "or router.stuck_suspect_after_s where it is only slow",
        _suspect,
    ),
    Check(
        "suspects_often",
        Level.WARNING,
        "the router suspects workers again and again",
        "each time their requests wait, and a death moves all of them",
        "raise router.suspect_after_s (1) and router.dead_after_s (3); see whether the machine is "
        "crowded or the network loses packets",
        _flaps,
    ),
    Check(
        "breaker_open",
        Level.WARNING,
        "a worker is left alone because it failed requests in a row",
        "it gets no requests until its time is over, and the next failure costs more",
        "read its log: the engine answers with errors; restart it where it does not recover",
        _resting,
    ),
    Check(
        "requests_given_up",
        Level.WARNING,
        "an engine gives requests up, and lives",
        "each goes on elsewhere and its prompt is computed again",
        "read its log: it answers with 5xx or breaks connections off; restart the engine, and look "
        "for a proxy between that does",
        _given_up,
    ),
    Check(
        "worker_unreachable",
        Level.WARNING,
        "a worker's address cannot be reached from here",
        "clients that are sent to workers (Route) cannot stream from it",
        "run this where clients are; else let workers listen there (worker.host, --spread)",
        _unreached,
    ),
    Check(
        "adapter_alone",
        Level.WARNING,
        "one worker alone serves an adapter",
        "all its requests go there, whatever waits, and none is served while it is away",
        f"start the other engines with the same {ADAPTERS['vllm']} (SGLang: "
        f"{ADAPTERS['sglang']}){_WHERE_MEANT}",
        _alone,
    ),
)
