"""The table of all checks, in the order in which what they find is shown; and `diagnose`. Pure."""

from typing import Final

from radixroute.doctor.check import Check, Finding, Level
from radixroute.doctor.evidence import Evidence
from radixroute.doctor.kinds.attaching.engine_events import ENGINE_EVENT_CHECKS
from radixroute.doctor.kinds.attaching.engines import ENGINE_CHECKS
from radixroute.doctor.kinds.attaching.joining import JOIN_CHECKS
from radixroute.doctor.kinds.attaching.weights import WEIGHT_CHECKS
from radixroute.doctor.kinds.caches import CACHE_CHECKS
from radixroute.doctor.kinds.keeping import KEEPING_CHECKS
from radixroute.doctor.kinds.load import LOAD_CHECKS
from radixroute.doctor.kinds.machine import MACHINE_CHECKS
from radixroute.doctor.kinds.members import MEMBER_CHECKS
from radixroute.doctor.kinds.prompts import PROMPT_CHECKS
from radixroute.doctor.kinds.queue import QUEUE_CHECKS
from radixroute.doctor.kinds.refusals import REFUSAL_CHECKS
from radixroute.doctor.kinds.safety import SAFETY_CHECKS
from radixroute.doctor.kinds.serving.answering import ANSWERING_CHECKS
from radixroute.doctor.kinds.serving.engine_use import USE_CHECKS
from radixroute.doctor.kinds.serving.failures import FAILURE_CHECKS
from radixroute.doctor.kinds.streams import STREAM_CHECKS

KINDS: Final[tuple[tuple[str, tuple[Check, ...]], ...]] = (
    ("What keeps an engine out", JOIN_CHECKS),
    ("Engines, beyond their joining", (*ENGINE_EVENT_CHECKS, *ENGINE_CHECKS, *WEIGHT_CHECKS)),
    ("Workers", (*MEMBER_CHECKS, *REFUSAL_CHECKS)),
    ("Requests that fail", (*ANSWERING_CHECKS, *FAILURE_CHECKS)),
    ("Event streams and the audit", STREAM_CHECKS),
    ("Caches", (*KEEPING_CHECKS, *CACHE_CHECKS)),
    ("What clients send", PROMPT_CHECKS),
    ("Load", (*QUEUE_CHECKS, *LOAD_CHECKS, *USE_CHECKS)),
    ("Who can reach and read what", SAFETY_CHECKS),
    ("This machine", MACHINE_CHECKS),
)
CHECKS: Final = tuple(check for _, checks in KINDS for check in checks)
CODES: Final = frozenset(check.code for check in CHECKS)


def diagnose(evidence: Evidence) -> tuple[Finding, ...]:
    """Errors first, then as the table has them."""
    found = [
        Finding(check.code, check.level, seen.where, seen.what, check.why, seen.fix or check.fix)
        for check in CHECKS
        for seen in check.look(evidence)
    ]
    return tuple(sorted(found, key=lambda one: one.level is not Level.ERROR))
