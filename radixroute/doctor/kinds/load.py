"""Loops that are late, workers that starve or are slow."""

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import EngineSeen, Evidence, RouterSeen
from radixroute.doctor.flags import SPEED
from radixroute.doctor.kinds.attaching.weights import have_one_name
from radixroute.doctor.kinds.serving.answering import does_nothing
from radixroute.doctor.kinds.serving.engine_use import is_at_once
from radixroute.doctor.page import Page
from radixroute.doctor.speeds import paces_of
from radixroute.protos import radixroute_pb2 as pb

LATE_S: Final = 0.25  # a bucket's bound of the histogram
LATE_SHARE: Final = 0.05
LATE_LOOKS: Final = 5
WITHOUT_KEY: Final = 10  # a probe or a scanner may be some of them
STARVED_REQUESTS: Final = 40  # of the fleet
STARVED_SHARE: Final = 0.1  # of what would be its part
PILED_SHARE: Final = 0.3  # of all requests
AVOIDABLE_MS: Final = 10_000.0
SLOW_REQUESTS: Final = 10
SLOW_RATIO: Final = 3.0
# Steps are known by their buckets, and one with more requests takes longer.
SLOW_STEP_RATIO: Final = 4.0
SLOW_STEP_MS: Final = 50.0
STEPS: Final = "radixroute_engine_step_seconds"
SLOW_MS: Final = 50.0  # below that it is noise of the machine


def _late(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    pages = {"router": router.now.page, **router.pages}
    for where, page in pages.items():
        late, n = page.share_above("radixroute_loop_lag_seconds", LATE_S)
        if late >= LATE_LOOKS and late >= LATE_SHARE * n:
            yield Seen(
                where, f"its loop was late by more than {LATE_S} s in {late / n:.0%} of looks"
            )


def _starved(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    live, reuse = router.live, router.reuse
    if len(live) < 2:
        return
    counts = dict(reuse.requests_by_worker)
    fair = reuse.requests / len(live)
    is_piled = reuse.piled >= PILED_SHARE * reuse.requests
    for one in live:
        if does_nothing(router.pages.get(one.worker_id, Page())):
            continue  # that is why
        n = counts.get(one.worker_id, 0)
        if reuse.requests >= STARVED_REQUESTS and is_piled and n < STARVED_SHARE * fair:
            what = f"it got {n} of {reuse.requests} requests while they queued at others"
            yield Seen(one.worker_id, what)
        elif one.idle_avoidable_ms >= AVOIDABLE_MS and _is_rising(evidence, one.worker_id):
            what = f"it idled for {one.idle_avoidable_ms / 1e3:.0f} s while requests waited"
            yield Seen(one.worker_id, what)


def _slow(evidence: Evidence) -> Iterator[Seen]:
    yield from _slow_engines(evidence.engines)
    router = evidence.router
    live = [] if router is None else [one.worker_id for one in router.live]
    if router is None or len(live) < 2:
        return
    paces = paces_of(router.log)
    for worker_id in live:
        page = router.pages.get(worker_id, Page())
        if is_at_once(page) or does_nothing(page):
            continue  # its first tokens wait for the last ones, or for ever
        pace = paces.get(worker_id)
        kind = router.told.get(worker_id, pb.GetInfoResponse()).engine_kind
        is_known = (
            pace is not None
            and pace.requests >= SLOW_REQUESTS
            and pace.first_token_ms >= SLOW_MS
            and pace.ratio >= SLOW_RATIO
        )
        if is_known and pace is not None:
            what = (
                f"its first tokens took {pace.first_token_ms:.0f} ms, {pace.ratio:.1f} times as"
                f" long as those of others for as many tokens ({pace.requests} prompts, none"
                " behind another)"
            )
            yield Seen(worker_id, what, _speed(kind))
        elif what := _slow_steps(router, worker_id):
            yield Seen(worker_id, what, _speed(kind))


def _slow_engines(engines: Sequence[EngineSeen]) -> Iterator[Seen]:
    """Before they are attached: by the tokens of answers that had the engine to themselves."""
    known = [
        (engine, pace.token_s, pace.gaps)
        for engine in engines
        if (pace := engine.examination.pace) is not None and pace.token_s and not pace.held_s
    ]
    for engine, own_s, gaps in known:
        others = [
            token_s
            for other, token_s, _ in known
            if other is not engine and have_one_name(other, engine)
        ]
        usual_s = median(others) if others else 0.0
        if usual_s and own_s * 1e3 >= SLOW_STEP_MS and own_s >= SLOW_STEP_RATIO * usual_s:
            what = (
                f"a token takes {own_s * 1e3:.0f} ms there, {own_s / usual_s:.0f} times as long as"
                f" at the others (the median of {gaps}, with nothing else running)"
            )
            said = engine.examination.statement
            yield Seen(engine.url, what, _speed("" if said is None else said.kind))


def _speed(kind: str) -> str:
    """What mends it by the flags of this kind; empty: the check's will do."""
    return _AS_FAST.format(SPEED[kind]) if kind in SPEED else ""


def _slow_steps(router: RouterSeen, worker_id: str) -> str:
    """By its median step, which a few long prompts do not move: also of one that few requests go
    to, as a slow one is."""
    steps = {one.worker_id: router.pages[one.worker_id].median(STEPS) for one in router.live
             if one.worker_id in router.pages}  # fmt: skip
    known = {name: step_s for name, (step_s, n) in steps.items() if n >= SLOW_REQUESTS}
    others = [step_s for name, step_s in known.items() if name != worker_id]
    own_s, usual_s = known.get(worker_id, 0.0), median(others) if others else 0.0
    if not usual_s or own_s * 1e3 < SLOW_STEP_MS or own_s < SLOW_STEP_RATIO * usual_s:
        return ""
    return (
        f"its steps take {own_s * 1e3:.0f} ms, about {own_s / usual_s:.0f} times as long as those"
        f" of others (the median of {steps[worker_id][1]:.0f})"
    )


def _is_rising(evidence: Evidence, worker_id: str) -> bool:
    router = evidence.router
    if router is None:
        return False
    before, now = router.before.worker(worker_id), router.now.worker(worker_id)
    is_known = before is not None and now is not None
    return is_known and now.idle_avoidable_ms > before.idle_avoidable_ms  # type: ignore[union-attr]


def _keys(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    n = 0 if router is None else router.count("requests_without_a_known_key")
    if n >= WITHOUT_KEY:
        yield Seen("router", f"{n:,} requests came without a key that is known")


_AS_FAST: Final = (
    "see what it shares its machine or GPU with, its clocks and its log; start it with the options "
    "that the others have ({}); leave it out where it cannot be faster"
)

LOAD_CHECKS: Final = (
    Check(
        "loop_late",
        Level.WARNING,
        "an event loop comes back late",
        "every stream of that process pauses each time",
        "give its process a core of its own: fewer workers or worker.torch_threads on that "
        "machine, no swap, a CPU limit that is not used up",
        _late,
    ),
    Check(
        "worker_starved",
        Level.WARNING,
        "a worker gets next to nothing while others have queues",
        "its share of the fleet is paid for and not used",
        "set --policy radix; with a policy by sessions, see that clients name more than one "
        "(X-Session-Id, session_key)",
        _starved,
    ),
    Check(
        "worker_slow",
        Level.WARNING,
        "a worker or an engine is much slower than the others",
        "its requests wait longest, and who goes on there is slowed down",
        _AS_FAST.format(SPEED["vllm"]),
        _slow,
    ),
    Check(
        "clients_without_key",
        Level.WARNING,
        "requests come without a key that is known",
        "clients are turned away, or somebody tries keys",
        "give clients a key of router.keys_file (Authorization: Bearer KEY), and see that the file "
        "was read again: its log says so",
        _keys,
    ),
)
