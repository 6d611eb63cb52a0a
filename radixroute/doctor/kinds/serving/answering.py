"""Engines that answer with errors, or not at all, though they say that they are well."""

from collections.abc import Iterator
from http import HTTPStatus
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence
from radixroute.doctor.kinds.refusals import SERVING, workers_of
from radixroute.doctor.page import Page

OWN_FAULT: Final = 500  # statuses from here on are the engine's, not the request's
# Attempts one after another: of an engine that has answered none, and of one whose queue may have
# been full for a moment.
NEVER_ANSWERED: Final = 3
IN_A_ROW: Final = 10
_ANSWERED: Final = ("stop", "length")
# Seconds with requests and without a step or an output. A step takes a second where it is slow; who
# counts no steps may be at a long prompt.
STILL_S: Final = 15.0
STILL_UNCOUNTED_S: Final = 60.0


def serving_pages(evidence: Evidence) -> Iterator[tuple[str, Page]]:
    """Of those that serve: one that others keep busy may be suspect."""
    for router, one in workers_of(evidence):
        if one.state in SERVING and one.worker_id in router.pages:
            yield one.worker_id, router.pages[one.worker_id]


def refuses(page: Page) -> bool:
    """Whether the engine behind this companion answers each request with an error of its own."""
    in_a_row = page.total("radixroute_companion_errors_in_a_row")
    ends = page.by("radixroute_companion_attempts_total", "end")
    has_answered = any(ends.get(end, 0) for end in _ANSWERED)
    return in_a_row >= (IN_A_ROW if has_answered else NEVER_ANSWERED)


def is_stuck(page: Page) -> bool:
    """Whether the engine behind this companion stands still."""
    still_s = page.total("radixroute_companion_engine_still_seconds")
    counts_steps = page.total("radixroute_companion_engine_steps") > 0
    return still_s >= (STILL_S if counts_steps else STILL_UNCOUNTED_S)


def does_nothing(page: Page) -> bool:
    """Either: how much it gets, how fast it is and what waits there is its consequence."""
    return refuses(page) or is_stuck(page)


def _refuses(evidence: Evidence) -> Iterator[Seen]:
    for worker_id, page in serving_pages(evidence):
        if not refuses(page):
            continue
        told = page.by("radixroute_companion_errors_total", "status")
        own = {int(one): n for one, n in told.items() if one.isdecimal() and int(one) >= OWN_FAULT}
        main = max(own, key=lambda one: own[one], default=OWN_FAULT)
        attempts = sum(page.by("radixroute_companion_attempts_total", "end").values())
        in_a_row = page.total("radixroute_companion_errors_in_a_row")
        what = (
            f"its engine answers with {_said(main)}: {sum(own.values()):,.0f} of {attempts:,.0f}"
            f" attempts were given up there, the last {in_a_row:,.0f} one after another"
        )
        yield Seen(worker_id, what)


def _said(status: int) -> str:
    known = {one.value: one.phrase for one in HTTPStatus}
    return f"{status} ({known[status]})" if status in known else str(status)


def _stuck(evidence: Evidence) -> Iterator[Seen]:
    for worker_id, page in serving_pages(evidence):
        if is_stuck(page):
            still_s = page.total("radixroute_companion_engine_still_seconds")
            ends = page.by("radixroute_companion_attempts_total", "end")
            left = ends.get("cancelled", 0)
            what = (
                f"requests waited for its engine for {still_s:,.0f} s, which made no step and no"
                f" token meanwhile ({left:,.0f} were given up by who asked)"
            )
            yield Seen(worker_id, what)


ANSWERING_CHECKS: Final = (
    Check(
        "engine_refuses",
        Level.ERROR,
        "an engine answers requests with errors of its own",
        "each goes on elsewhere or fails, and what that engine costs is not used",
        "look at that engine: its log, and that of a proxy before it, say why it answers so (a "
        "core that died, no room, nothing behind the proxy); restart it where it does not recover",
        _refuses,
    ),
    Check(
        "worker_stuck",
        Level.ERROR,
        "an engine stands still",
        "requests that are sent there wait until somebody gives them up",
        "restart that engine; its log and its GPU (nvidia-smi) say what its core waits for: a "
        "collective of several GPUs, a full disk, swap",
        _stuck,
    ),
)
