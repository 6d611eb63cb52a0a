"""Room at the router: full queues, connections that are turned away, time that runs out."""

from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.router.settings import RouterSettings

REFUSED: Final = 5
REFUSED_SHARE: Final = 0.01
SMALL_QUEUE: Final = 0.25  # of its default


def _queue(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    refused = router.count("requests_refused_queue_full")
    asked = refused + router.count("requests_accepted")
    most = evidence.setting("router.max_waiting", 0)
    waiting = router.now.page.total("radixroute_queue_requests")
    waited = router.before.page.total("radixroute_queue_requests")
    if refused >= max(REFUSED, REFUSED_SHARE * asked):
        of, fix = _limit(evidence, router)
        what = f"{refused:,} of {asked:,} requests were refused: {of}"
        yield Seen("router", what, fix)
    elif most and min(waiting, waited) >= 0.9 * most:
        yield Seen("router", f"{waiting:.0f} requests wait, {most:,} may", _small_queue(evidence))


def _limit(evidence: Evidence, router: RouterSeen) -> tuple[str, str]:
    """Which setting is reached, as most of those who were refused met it, and what mends it. A
    router of before does not say."""
    counts = {name: router.count(f"requests_refused_by_{name}") for name in _LIMITS}
    main = max(counts, key=lambda one: counts[one])
    if not counts[main]:
        return "the queue was full", _small_queue(evidence)
    others = [f"{n:,} by router.{name}" for name, n in counts.items() if n and name != main]
    beside = f" ({', '.join(others)})" if others else ""
    given = evidence.setting(f"router.{main}", 0) if evidence.settings_are_its_own else 0
    value = f" = {given:,}" if given else ""
    what = f"router.{main}{value} was reached by {counts[main]:,} of them{beside}"
    fix = f"raise router.{main} ({_LIMITS[main]}), or add workers{_AND_NO_MORE}"
    usual = getattr(RouterSettings(), main)
    if 0 < given < SMALL_QUEUE * usual:
        return what, f"raise router.{main}: it is {given:,}, its default {usual:,}; {_ADD}"
    return what, fix


_LIMITS: Final = {
    "max_in_flight": "requests that wait and run, together",
    "max_in_flight_bytes": "bytes of their prompts",
    "max_in_flight_tokens": "tokens of their prompts",
    "max_waiting": "requests that wait for a worker",
    "max_waiting_tokens": "tokens of their prompts",
}
_ADD: Final = "add workers where it is reached even then"
_AND_NO_MORE: Final = (
    "; where more come all the time than workers can answer, only workers help: who waits longer "
    "than it bears is not helped by room"
)


def _small_queue(evidence: Evidence) -> str:
    """What mends it where its own settings make the queue small; empty: they do not."""
    if not evidence.settings_are_its_own:
        return ""
    usual = RouterSettings()
    for name in ("max_waiting", "max_waiting_tokens"):
        default = getattr(usual, name)
        given = evidence.setting(f"router.{name}", default)
        if given < SMALL_QUEUE * default:
            return (
                f"raise router.{name}: it is {given:,}, its default {default:,}; add workers where "
                "the queue is full even then"
            )
    return ""


def _connections(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    n = 0 if router is None else router.count("http_connections_too_many")
    if n:
        yield Seen("router", f"{n:,} connections over HTTP were turned away")


def _timed_out(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    hopeless = router.count("requests_refused_hopeless_deadline")  # these were not accepted
    n = router.count("requests_past_deadline") + hopeless
    asked = router.count("requests_accepted") + hopeless
    if n >= max(REFUSED, 0.05 * asked):
        yield Seen("router", f"{n:,} of {asked:,} requests ended for want of time")


QUEUE_CHECKS: Final = (
    Check(
        "queue_full",
        Level.WARNING,
        "the router's queue is full",
        "clients are told to come again later",
        "add workers; raise router.max_waiting (and router.max_waiting_tokens) only for bursts: "
        "who waits longer than it bears is not helped",
        _queue,
    ),
    Check(
        "connections_full",
        Level.WARNING,
        "connections over HTTP are turned away",
        "clients see resets, not answers",
        "raise router.http_max_connections, and the hard limit of open files (ulimit -Hn) with it",
        _connections,
    ),
    Check(
        "requests_timed_out",
        Level.WARNING,
        "many requests end for want of time",
        "what was computed for them is lost",
        "add workers, or raise router.request_timeout_s and the clients' own deadlines",
        _timed_out,
    ),
)
