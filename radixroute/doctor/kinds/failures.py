"""Requests that end with an error, most of them: which end they mostly have, and what mends it."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence, RouterSeen
from radixroute.doctor.kinds.streams import PLAIN

ENOUGH: Final = 10  # of them: a client that tries something is none
SHARE: Final = 0.2  # of all that were asked
# What a plain server's API lacks, as clients of vLLM send it.
_PLAIN_LACKS: Final = "ignore_eos, top_k, min_p, repetition_penalty, min_tokens, stop_token_ids"


@dataclass(frozen=True, slots=True)
class _End:
    """One reason, as routers count it."""

    counter: str
    reason: str  # as their page of metrics names it, in words
    fix: str
    is_accepted: bool = True  # else it was turned away before it counted as asked
    among: tuple[str, ...] = ()  # counters of some of these that are told of elsewhere


_ENDS: Final = (
    _End(
        "requests_refused_by_worker",
        "its engine refuses it (worker_refused)",
        "send one with curl: its error names the field or limit that the engine refuses; let "
        "clients leave it out, or start engines with the options that allow it",
    ),
    _End(
        "requests_rejected",
        "the router refuses it as it stands (rejected)",
        "send one with curl: its error says what to change",
        is_accepted=False,
        among=("requests_refused_too_long", "requests_refused_by_worker"),
    ),
    _End(
        "http_requests_malformed",
        "it is no HTTP request that can be read (malformed)",
        "see what clients or the proxy before the router send: no HTTP/1.1, or TLS to a port "
        "without it",
        is_accepted=False,
    ),
    _End(
        "http_requests_too_large",
        "its body is too large (too_large)",
        "let clients send less, or raise router.max_message_bytes",
        is_accepted=False,
    ),
    _End(
        "requests_failed_by_worker",
        "its engine answers with an error (worker_error)",
        "read the engines' logs: they answer with 5xx or break connections off; restart them",
    ),
    _End(
        "requests_failed_after_two_deaths",
        "two workers were lost with it (two_deaths)",
        "mend first what is found of workers that end; their logs say why",
    ),
    _End(
        "requests_not_resumable",
        "its worker was lost and none can go on with it (not_resumable)",
        "mend first what is found of workers that end; answers with presence or frequency "
        "penalties cannot go on elsewhere",
    ),
)


def _counts(router: RouterSeen) -> list[tuple[int, _End]]:
    """Since the router's start; most first."""
    counts = [
        (max(0, router.count(one.counter) - sum(map(router.count, one.among))), one)
        for one in _ENDS
    ]
    return sorted(counts, key=lambda one: -one[0])


def _fail(evidence: Evidence) -> Iterator[Seen]:
    router = evidence.router
    if router is None:
        return
    counts = _counts(router)
    failed = sum(n for n, _ in counts)
    asked = router.count("requests_accepted") + sum(n for n, end in counts if not end.is_accepted)
    if failed < ENOUGH or failed < SHARE * asked or not _is_so_still(router):
        return
    n, main = counts[0]
    what = (
        f"{failed:,} of {asked:,} requests ended with an error ({failed / max(1, asked):.0%});"
        f" {n:,} of them: {main.reason}"
    )
    is_plain = any(one.engine_kind == PLAIN for one in router.told.values())
    beside = ""
    if main.counter == "requests_refused_by_worker" and is_plain:
        beside = f"; a plain OpenAI server takes none of {_PLAIN_LACKS}"
    yield Seen("router", what, f"{main.fix}{beside}")


def _is_so_still(router: RouterSeen) -> bool:
    """Of the last ones; what was mended is no finding. True where nothing moves."""
    counters = [one.counter for one in _ENDS]
    rose = sum(map(router.rose, counters))
    good = router.rose("requests_finished")
    return good < ENOUGH or rose >= SHARE * good


FAILURE_CHECKS: Final = (
    Check(
        "requests_fail",
        Level.ERROR,
        "many requests end with an error",
        "their clients have no answer",
        "send one with curl and read its error",
        _fail,
    ),
)
