"""Workers that the router refuses, and versions that do not fit: what is unlike in one fleet."""

import re
from collections.abc import Callable, Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.flags import AUTO, LENGTH, NAMES
from radixroute.doctor.kinds.attaching.joining import join_code
from radixroute.doctor.kinds.attaching.models import Kinship, engine_of, fix_of, kinship, of_told
from radixroute.protos import radixroute_pb2 as pb

SERVING: Final = ("live", "suspect", "draining")


def workers_of(evidence: Evidence) -> Iterator[tuple[RouterSeen, pb.WorkerStatus]]:
    """Each with its router, where one was seen."""
    router = evidence.router
    for one in () if router is None else router.now.workers:
        yield router, one  # type: ignore[misc]  # it is not None where there are workers


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
        for router, one in workers_of(evidence):
            if one.state == "refused" and _refusal(router, one) == code:
                what = f"refused: {one.reason}{_dtypes(router, one, code)}"
                fix = _fix(router, one, code)
                if code == "model_differs":
                    fix = _model(evidence, router, one)
                yield Seen(one.worker_id, what, fix)

    return look


def _dtypes(router: RouterSeen, one: pb.WorkerStatus, code: str) -> str:
    told, others = router.told.get(one.worker_id), _others(router, one.worker_id)
    if code != "kv_dtype_differs" or told is None or not others:
        return ""
    theirs = sorted({other.scope.kv_dtype or AUTO for other in others})
    own = told.scope.kv_dtype or AUTO
    return f" (its KV dtype is {own}, that of the others {', '.join(theirs)})"


def _fix(router: RouterSeen, one: pb.WorkerStatus, code: str) -> str:
    """With its own flag, in place of the check's; empty: that will do."""
    told = router.told.get(one.worker_id)
    if code != "max_model_len_differs" or told is None or told.engine_kind not in LENGTH:
        return ""
    return f"start it with a {LENGTH[told.engine_kind]} of no less than the fleet has"


def _model(evidence: Evidence, router: RouterSeen, one: pb.WorkerStatus) -> str:
    """By what its engine says, where it is seen; else by what it tells itself."""
    told = router.told.get(one.worker_id)
    usual = next(iter(_others(router, one.worker_id)), None)
    kin = Kinship() if told is None or usual is None else of_told(told, usual)
    own = engine_of(evidence, one.worker_id)
    others = [each.worker_id for each in router.now.workers if each.state in SERVING]
    seen = (engine_of(evidence, each) for each in others if each != one.worker_id)
    first = next((engine for engine in seen if engine is not None), None)
    if own is not None and first is not None and not kin.other:
        kin = kinship(own, first)
    return fix_of("" if told is None else told.engine_kind, kin, router.now.info.model)


def _versions(evidence: Evidence) -> Iterator[Seen]:
    yield from _refused("versions_differ")(evidence)
    router, machine = evidence.router, evidence.machine
    if router is not None and (ours := router.now.info.version):
        if machine is not None and machine.version and machine.version != ours:
            yield Seen("router", f"it runs {ours}, this command is of {machine.version}")
        for worker_id, told in sorted(router.told.items()):
            if told.version and told.version != ours:
                yield Seen(worker_id, f"it runs {told.version}, the router {ours}")
    first: dict[str, str] = {}  # by product: versions of different ones are not compared
    for engine in evidence.engines:
        said = engine.examination.statement
        if said is None or not said.version:
            continue
        usual = first.setdefault(said.kind, said.version)
        if said.version != usual:
            fix = f"install one version of {NAMES.get(said.kind, said.kind)} on all of its engines"
            yield Seen(
                engine.url, f"the engine is of {said.version}, the first one of {usual}", fix
            )


REFUSAL_CHECKS: Final = (
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
        "start all engines with one --kv-cache-dtype (companion.kv_dtype, worker.kv_dtype); where "
        "one stands beside workers of ours, companion.fingerprint is theirs",
        _refused("kv_dtype_differs"),
    ),
    Check(
        "model_differs",
        Level.ERROR,
        "a worker serves another model",
        "an answer would depend on where a request went",
        "restart it with the model that the others have (--model, SGLang: --model-path, "
        "worker.model: the same folder or revision); only where it is the same model under another "
        "name, give it theirs (--served-model-name, worker.served_model_name)",
        _refused("model_differs"),
    ),
    Check(
        "max_model_len_differs",
        Level.ERROR,
        "a worker takes shorter requests than the fleet",
        "a request could not move there when its worker dies",
        "start all engines with one --max-model-len (--context-length of SGLang, "
        "worker.max_model_len)",
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
        "versions_differ",
        Level.WARNING,
        "versions differ",
        "what one writes another may not read: upgrades are for moments, not for days",
        "install one version of radixroute everywhere, and restart what runs the old one",
        _versions,
    ),
)
