"""How engines are used: by others, queued in with room, through what buffers."""

from collections.abc import Iterator
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence
from radixroute.doctor.flags import MOST_SEQS, NAMES
from radixroute.doctor.kinds.serving.answering import is_stuck, serving_pages
from radixroute.doctor.page import Page

ENOUGH_LOOKS: Final = 5
CROWDED: Final = 0.3  # of looks: one that comes a moment late sees who has ended since
QUEUED: Final = 0.5  # of looks: a request that has just come waits for the next step, too
FEWER: Final = 0.5  # of what another engine runs at once
ENOUGH_ANSWERS: Final = 10
AT_ONCE: Final = 0.5  # of long answers: a loop that was late hands on several tokens at once


def _pages(evidence: Evidence) -> Iterator[tuple[str, Page]]:
    """Of engines that do something: what is left at one that stands still is nobody's use."""
    return ((one, page) for one, page in serving_pages(evidence) if not is_stuck(page))


def _looks(page: Page) -> dict[str, float]:
    """By what was found; none where it was not looked at often enough."""
    looks = page.by("radixroute_companion_engine_looks_total", "found")
    return looks if looks.get("any", 0) >= ENOUGH_LOOKS else {}


def _crowded(evidence: Evidence) -> Iterator[Seen]:
    for worker_id, page in _pages(evidence):
        looks = _looks(page)
        if looks and (n := looks.get("crowded", 0)) >= CROWDED * looks["any"]:
            there = page.total("radixroute_companion_engine_running_requests") + page.total(
                "radixroute_companion_engine_waiting_requests"
            )
            yield Seen(
                worker_id,
                f"in {n:.0f} of {looks['any']:.0f} looks its engine had more requests than were"
                f" sent there by this fleet ({there:.0f} at the last look)",
            )


def _queued(evidence: Evidence) -> Iterator[Seen]:
    pages = dict(_pages(evidence))
    most = {
        worker_id: page.total("radixroute_companion_engine_most_running_requests")
        for worker_id, page in pages.items()
    }
    for worker_id, page in pages.items():
        looks = _looks(page)
        others = max((n for other, n in most.items() if other != worker_id), default=0.0)
        if not looks or most[worker_id] > FEWER * others:
            continue
        if (n := looks.get("queued", 0)) >= QUEUED * looks["any"]:
            yield Seen(
                worker_id,
                f"in {n:.0f} of {looks['any']:.0f} looks requests waited in its engine, whose KV"
                f" memory was less than half in use; it runs {most[worker_id]:.0f} at once at"
                f" most, another {others:.0f}",
                _runs_more(evidence, worker_id),
            )


def _runs_more(evidence: Evidence, worker_id: str) -> str:
    """By the flag of its own kind; empty: of which it is none."""
    told = None if evidence.router is None else evidence.router.told.get(worker_id)
    kind = "" if told is None else told.engine_kind
    if kind not in MOST_SEQS:
        return ""
    return f"raise {MOST_SEQS[kind]} of that {NAMES.get(kind, 'worker')} to what the others have"


def is_at_once(page: Page) -> bool:
    """Whether most of its answers come in one piece."""
    answers = page.by("radixroute_companion_long_answers_total", "pace")
    n = sum(answers.values())
    return n >= ENOUGH_ANSWERS and answers.get("at_once", 0.0) >= AT_ONCE * n


def _at_once(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:  # before they are attached
        pace = engine.examination.pace
        if pace is not None and pace.held_s:
            what = f"whole answers were held back for {pace.held_s:.1f} s, and came at once"
            yield Seen(engine.url, what)
    for worker_id, page in _pages(evidence):
        if is_at_once(page):
            answers = page.by("radixroute_companion_long_answers_total", "pace")
            n, lumps = sum(answers.values()), answers.get("at_once", 0.0)
            yield Seen(worker_id, f"{lumps:,.0f} of {n:,.0f} answers came with all tokens at once")


USE_CHECKS: Final = (
    Check(
        "engine_shared",
        Level.WARNING,
        "an engine is used past this fleet",
        "its time and its cache go to requests that the router does not know of",
        "send those clients through the router (its OpenAI door), give another router engines of "
        "its own, and let a firewall or --api-key keep others from the engine; where a proxy "
        "stands before it, see that it closes its side when its client leaves; an engine that is "
        "meant to be shared: leave this out with --ignore",
        _crowded,
    ),
    Check(
        "engine_queue_short",
        Level.WARNING,
        "requests wait in one engine that runs few at once, and others run more",
        "they wait for a place, not for memory, where another engine would take them",
        f"raise {MOST_SEQS['vllm']} of a vLLM, {MOST_SEQS['sglang']} of an SGLang, to what the "
        "others have",
        _queued,
    ),
    Check(
        "answers_at_once",
        Level.WARNING,
        "answers of an engine come in one piece, not token by token",
        "clients wait for the whole answer, and no time to a first token can be told",
        "turn off buffering in what stands before the engine (proxy_buffering off of nginx), or "
        "give the engine's own URL; leave out a large --stream-interval",
        _at_once,
    ),
)
