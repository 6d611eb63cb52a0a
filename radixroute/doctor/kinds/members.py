"""Workers that do not serve, or not well: refused, away, silent, restarting, resting, unlike."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.kinds.joining import join_code
from radixroute.protos import radixroute_pb2 as pb

SERVING: Final = ("live", "suspect", "draining")
COMING: Final = ("starting", "restarting", "joining")
CIRCLES: Final = 3  # deaths; one or two may be somebody's doing
CIRCLE_S: Final = 600.0  # between two of them, on average
# Requests: an engine that answers with errors, or whose connections break.
GIVEN_UP: Final = 5
GIVEN_UP_SHARE: Final = 0.05
MOVED_BY_A_DEATH: Final = 64
OFTEN: Final = 10  # suspicions
# Seconds: heartbeats come each 0.25 s, and one that is late is no silence.
LEAST_PATIENCE: Final = (("router.suspect_after_s", 0.5), ("router.dead_after_s", 1.0))


def _workers(evidence: Evidence) -> Iterator[tuple[RouterSeen, pb.WorkerStatus]]:
    router = evidence.router
    for one in () if router is None else router.now.workers:
        yield router, one  # type: ignore[misc]  # it is not None where there are workers


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


# The router's words for a refusal -> what it is. The others are `worker_refused`.
_REFUSALS: Final = (
    ("secret_differs", re.compile(r"same cluster_secret")),
    ("kv_dtype_differs", re.compile(r"^scope fingerprint ")),
    ("model_differs", re.compile(r"^model ")),
    ("max_model_len_differs", re.compile(r"^max_model_len ")),
    ("versions_differ", re.compile(r"^api version ")),
)


def _refusal(router: RouterSeen, one: pb.WorkerStatus) -> str:
    """Which check a refused worker is for; empty: the join's."""
    if join_code(one.reason) is not None:
        return ""
    code = next((code for code, words in _REFUSALS if words.search(one.reason)), "worker_refused")
    if code != "kv_dtype_differs":
        return code
    # Fingerprints that differ, under one secret: it says of what.
    told, others = router.told.get(one.worker_id), _others(router, one.worker_id)
    if (
        told is not None
        and others
        and all(told.scope.kv_dtype == other.scope.kv_dtype for other in others)
    ):
        return "model_differs"
    return code


def _others(router: RouterSeen, worker_id: str) -> list[pb.GetInfoResponse]:
    return [
        router.told[one.worker_id]
        for one in router.now.workers
        if one.state in SERVING and one.worker_id != worker_id and one.worker_id in router.told
    ]


def _refused(code: str) -> Callable[[Evidence], Iterator[Seen]]:
    def look(evidence: Evidence) -> Iterator[Seen]:
        for router, one in _workers(evidence):
            if one.state == "refused" and _refusal(router, one) == code:
                yield Seen(one.worker_id, f"refused: {one.reason}{_dtypes(router, one, code)}")

    return look


def _dtypes(router: RouterSeen, one: pb.WorkerStatus, code: str) -> str:
    told, others = router.told.get(one.worker_id), _others(router, one.worker_id)
    if code != "kv_dtype_differs" or told is None or not others:
        return ""
    theirs = sorted({other.scope.kv_dtype for other in others})
    return f" (its KV dtype is {told.scope.kv_dtype}, that of the others {', '.join(theirs)})"


def _suspect(evidence: Evidence) -> Iterator[Seen]:
    for _router, one in _workers(evidence):
        if one.state == "suspect":
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
    for router, one in _workers(evidence):
        if one.state != "refused" and _circles(router, one):
            why = f": {one.reason}" if one.reason else ""
            yield Seen(one.worker_id, f"it ended {one.deaths} times and is {one.state}{why}")


def _down(evidence: Evidence) -> Iterator[Seen]:
    for router, one in _workers(evidence):
        if _circles(router, one) or join_code(one.reason) is not None:
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
    for router, one in _workers(evidence):
        if one.worker_id in router.unreached and one.state == "live":
            yield Seen(one.worker_id, f"{one.address} answers its router, and nothing here")


def _versions(evidence: Evidence) -> Iterator[Seen]:
    yield from _refused("versions_differ")(evidence)
    router, machine = evidence.router, evidence.machine
    if router is not None and (ours := router.now.info.version):
        if machine is not None and machine.version and machine.version != ours:
            yield Seen("router", f"it runs {ours}, this command is of {machine.version}")
        for worker_id, told in sorted(router.told.items()):
            if told.version and told.version != ours:
                yield Seen(worker_id, f"it runs {told.version}, the router {ours}")
    versions = [
        (engine.url, engine.examination.statement.version)
        for engine in evidence.engines
        if engine.examination.statement is not None and engine.examination.statement.version
    ]
    for url, version in versions[1:]:
        if version != versions[0][1]:
            fix = "install one version on all engines"
            yield Seen(url, f"the engine is of {version}, the first one of {versions[0][1]}", fix)


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
        "secret_differs",
        Level.ERROR,
        "a worker has another cluster secret than the router",
        "its block keys mean nothing to the router: no hit could be foreseen",
        "give router.cluster_secret and worker.cluster_secret one value everywhere",
        _refused("secret_differs"),
    ),
    Check(
        "kv_dtype_differs",
        Level.ERROR,
        "a worker keeps its KV cache in another dtype, or has another model's weights",
        "what one computes is not what another would: their blocks are not the same",
        "start all engines with one --kv-cache-dtype (companion.kv_dtype, worker.dtype); where one "
        "stands beside workers of ours, companion.fingerprint is theirs",
        _refused("kv_dtype_differs"),
    ),
    Check(
        "model_differs",
        Level.ERROR,
        "a worker serves another model",
        "an answer would depend on where a request went",
        "serve one model under one name: --served-model-name (worker.served_model_name), the same "
        "folder on each",
        _refused("model_differs"),
    ),
    Check(
        "max_model_len_differs",
        Level.ERROR,
        "a worker takes shorter requests than the fleet",
        "a request could not move there when its worker dies",
        "start all engines with one --max-model-len (worker.max_model_len)",
        _refused("max_model_len_differs"),
    ),
    Check(
        "worker_refused",
        Level.ERROR,
        "the router refuses a worker",
        "it gets no requests",
        "do what its reason says, then start it again",
        _refused("worker_refused"),
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
        "versions_differ",
        Level.WARNING,
        "versions differ",
        "what one writes another may not read: upgrades are for moments, not for days",
        "install one version of radixroute everywhere, and restart what runs the old one",
        _versions,
    ),
)
