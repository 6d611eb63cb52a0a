"""Event streams and the audit: whether what the router believes of caches is what they hold."""

from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.flags import NAMES, TELLS_CACHED
from radixroute.doctor.kinds.keeping import keeping_nothing, sharing_scopes
from radixroute.doctor.reuse import WHOLE
from radixroute.protos import radixroute_pb2 as pb

# They learn from what they sent where, or ask for no cache at all.
BLIND_POLICIES: Final = (
    *("round_robin", "random", "least_loaded", "power_of_two"),
    *("session_affinity", "prefix_approx", "sglang_cache_aware"),
)
PLAIN: Final = "openai"  # an engine that has no events by nature: its cache is believed
ENOUGH_REQUESTS: Final = 5
MANY_GAPS: Final = 100
FEW_GAPS: Final = 3  # of an engine and the companion beside it: a link that breaks once is no fault


def _live(evidence: Evidence) -> Iterator[tuple[RouterSeen, pb.WorkerStatus]]:
    router = evidence.router
    if router is not None:
        yield from ((router, one) for one in router.now.workers if one.state == "live")


def _stale(evidence: Evidence) -> Iterator[Seen]:
    for _router, one in _live(evidence):
        if one.stream_state == "stale":
            yield Seen(one.worker_id, "no event and no heartbeat of it is heard")


def _behind(evidence: Evidence) -> Iterator[Seen]:
    for router, one in _live(evidence):
        before = router.before.worker(one.worker_id)
        was = "" if before is None or before.epoch != one.epoch else before.stream_state
        states = ("gap", "resync", "syncing")
        if one.stream_state in states and was in states:
            yield Seen(one.worker_id, f"its stream is in {one.stream_state} and stays behind")


def _gaps(evidence: Evidence) -> Iterator[Seen]:
    name = "radixroute_worker_stream_gaps_total"
    router = evidence.router
    if router is None:
        return
    yield from _gaps_before(evidence)
    before = router.before.page.by(name, "worker")
    for worker_id, gaps in router.now.page.by(name, "worker").items():
        if gaps >= MANY_GAPS or gaps > before.get(worker_id, gaps):
            yield Seen(worker_id, f"its stream missed batches {gaps:.0f} times")


def _gaps_before(evidence: Evidence) -> Iterator[Seen]:
    """Between an engine and its companion, as that counted them."""
    router = evidence.router
    for worker_id, page in () if router is None else router.pages.items():
        gaps = page.total("radixroute_companion_event_gaps_total")
        unmended = page.total("radixroute_companion_event_gaps_unmended_total")
        if gaps < FEW_GAPS and not unmended:
            continue
        missed = page.total("radixroute_companion_event_batches_missed_total")
        came = page.total("radixroute_companion_event_batches_total")
        lost = f"{unmended:,.0f} could not be mended" if unmended else "a replay mended all"
        what = (
            f"{missed:,.0f} of {came + missed:,.0f} batches of its engine's events did not arrive,"
            f" in {max(gaps, unmended):,.0f} gaps; {lost}"
        )
        told = router.told.get(worker_id, pb.GetInfoResponse()) if router else pb.GetInfoResponse()
        yield Seen(
            worker_id, what, _KEEPS_MORE if unmended else _LOSES_LESS.get(told.engine_kind, "")
        )


_LOSES_LESS: Final = {
    "vllm": 'raise "hwm" and "max_queue_size" in the --kv-events-config of that vLLM (100000 are '
    "their defaults), and see whether the network between is full or its companion's CPU is",
    "sglang": 'raise "hwm" and "max_queue_size" in the --kv-events-config of that SGLang (100000 '
    "are their defaults), and see whether the network between is full or its companion's CPU is",
}
_KEEPS_MORE: Final = (
    'raise "buffer_steps" in the --kv-events-config of that engine (10000 is its default; each '
    'step is a batch) and "hwm", and see that its "replay_endpoint" can be reached from here'
)


def _rejected(evidence: Evidence) -> Iterator[Seen]:
    for _router, one in _live(evidence):
        if one.rejected_batches:
            yield Seen(one.worker_id, f"{one.rejected_batches} batches of its events are refused")


def _unread(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    n = 0 if router is None else router.now.page.total("radixroute_event_items_unread_total")
    if n:
        yield Seen("router", f"{n:.0f} items of event streams were lost here")


def _off(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None or router.now.info.policy in BLIND_POLICIES:
        return
    is_allowed = evidence.settings_are_its_own and evidence.setting(
        "companion.allow_no_events", False
    )
    hits = {one.worker_id: one for one in router.now.hits.workers}
    for _, one in _live(evidence):
        served = hits.get(one.worker_id, pb.WorkerHits())
        has_served = served.requests >= ENOUGH_REQUESTS and not one.deaths
        is_long = served.prompt_tokens >= 2 * served.requests * router.now.info.block_size
        told = router.told.get(one.worker_id, pb.GetInfoResponse())
        if told.engine_kind == PLAIN:
            continue
        fix = _SENDS.get(told.engine_kind, "")
        if told.cache_is_believed:
            what = "its engine sends none: what it has cached is believed"
            yield Seen(one.worker_id, what, fix)
        elif one.indexed_blocks or one.stream_state != "live":
            continue
        elif has_served and is_long:
            what = f"it served {served.requests} requests, and no event told of a block"
            yield Seen(one.worker_id, what, fix)
        elif is_allowed:
            what = "companion.allow_no_events is set, and no block is known"
            yield Seen(one.worker_id, what, fix)


_OR_APPROXIMATE: Final = (
    " --kv-events-config (as in docs/engines.md) and leave out --allow-no-events; or choose "
    "--policy prefix_approx, which needs none"
)
_SENDS: Final = {kind: f"start that {name} with{_OR_APPROXIMATE}" for kind, name in NAMES.items()}


def tells_nothing(router: RouterSeen, one: pb.WorkerStatus) -> bool:
    """Of what was cached, in no report: then a rate of 0 says nothing, either."""
    told = sum(hits.cached_tokens for hits in router.now.hits.workers
               if hits.worker_id == one.worker_id)  # fmt: skip
    return not told and not one.audit_judged


def _not_told(evidence: Evidence) -> Iterator[Seen]:
    is_allowed = evidence.settings_are_its_own and evidence.setting(
        "companion.allow_no_cached_tokens", False
    )
    tells_zero = {} if evidence.router is None else keeping_nothing(evidence.router)
    for router, one in _live(evidence):
        if one.worker_id in tells_zero:
            continue
        # A request that nothing is told of is in no hit rate, but in the log. Who left before its
        # end heard nothing of any engine.
        log = [
            entry
            for entry in router.log
            if entry.worker_id == one.worker_id and entry.outcome in WHOLE
        ]
        if not tells_nothing(router, one) or len(log) < ENOUGH_REQUESTS:
            continue
        predicted = sum(entry.predicted_tokens for entry in log)
        if predicted or is_allowed:
            what = f"{predicted:,} tokens of {len(log):,} requests were thought cached"
            kind = router.told.get(one.worker_id, pb.GetInfoResponse()).engine_kind
            tells = TELLS_CACHED.get(kind, "")
            fix = f"{tells} and {_UNALLOWED}" if tells else ""
            yield Seen(one.worker_id, f"{what}, and it tells of none", fix)


def _drifted(evidence: Evidence) -> Iterator[Seen]:
    for router, one in _live(evidence):
        if one.audit == "drifted" and one.worker_id not in sharing_scopes(router):
            of = f"{one.audit_differing} of {one.audit_judged} reports differ"
            why = f": {one.audit_reason}" if one.audit_reason else ""
            told = router.told.get(one.worker_id, pb.GetInfoResponse())
            fix = _BELIEVES_LESS if told.cache_is_believed else ""
            yield Seen(one.worker_id, f"its cache counts for nothing ({of}){why}", fix)


# Nobody told that it held them: its engine is not at fault.
_BELIEVES_LESS: Final = (
    "set companion.believed_blocks to the blocks that the engine's pool has (less where others use "
    "it, too), and let nobody send to it past this router; or let it send events (docs/engines.md)"
)


def _differs(evidence: Evidence) -> Iterator[Seen]:
    sharing = {} if evidence.router is None else sharing_scopes(evidence.router)
    for _router, one in _live(evidence):
        if one.worker_id in sharing:
            continue
        many = max(5, 0.01 * one.audit_judged)
        if one.audit != "drifted" and one.audit_differing >= many:
            yield Seen(
                one.worker_id, f"{one.audit_differing} of {one.audit_judged} reports differed"
            )


_UNALLOWED: Final = "leave out --allow-no-cached-tokens"

STREAM_CHECKS: Final = (
    Check(
        "events_stale",
        Level.ERROR,
        "nothing is heard of a live worker's cache",
        "its cache counts for nothing: it is chosen by load alone",
        "let the router reach the worker's event and replay ports (firewall, worker.host); see "
        "whether its process stands still",
        _stale,
    ),
    Check(
        "events_behind",
        Level.WARNING,
        "a worker's event stream stays behind a gap",
        "what it has cached since counts for nothing, or for too much",
        "let the router reach the worker's replay port; a burst that never ends needs fewer "
        "workers a router, or a larger hwm and buffer_steps at the engine",
        _behind,
    ),
    Check(
        "events_lost",
        Level.WARNING,
        "a worker's events are lost on their way again and again",
        "each gap costs a replay or a snapshot, and hits until that is there",
        "see whether the network between that worker and the router is full, or a CPU at an end: "
        "give the router a core of its own",
        _gaps,
    ),
    Check(
        "events_refused",
        Level.WARNING,
        "batches of a worker's events make no sense to the router",
        "what they said is not believed",
        "install one version of radixroute everywhere; nothing else may send to the worker's event "
        "port",
        _rejected,
    ),
    Check(
        "events_unread",
        Level.WARNING,
        "the router is too slow for the events that come",
        "streams see gaps, and prompts wait behind events",
        "give the router a core of its own, or give it fewer workers",
        _unread,
    ),
    Check(
        "events_off",
        Level.ERROR,
        "a worker serves without cache events",
        "the router cannot know what it has cached: it routes by load, or by a belief",
        f"start the engine with{_OR_APPROXIMATE}",
        _off,
    ),
    Check(
        "hits_not_told",
        Level.WARNING,
        "a worker does not tell how much of a prompt was cached",
        "hit rates read 0, and what its events say is held against nothing",
        f"{TELLS_CACHED['vllm']} and {_UNALLOWED}",
        _not_told,
    ),
    Check(
        "audit_drifted",
        Level.ERROR,
        "a worker's reports differ from its events: the audit took its credit",
        "its cache counts for nothing until they agree again",
        "restart the worker and its engine; if it comes again, upgrade the engine, and report it "
        "with `radixroute events record`",
        _drifted,
    ),
    Check(
        "audit_differs",
        Level.WARNING,
        "a worker's reports differ from its events now and then",
        "each time its credit goes for a while",
        "upgrade the engine, let nobody else send requests to it that change what it reports "
        "(vllm_xargs), and see `radixroute workers`",
        _differs,
    ),
)
