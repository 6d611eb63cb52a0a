"""Access log: one line a request, when it ends. A reader of the router's tape.

Owns what it must remember of open requests until then. A line is `name=value` in a fixed order,
values as JSON where they are text, so that nobody's id can break a line; lengths and ids, never a
prompt. Times are milliseconds since the request came to the router.
"""

import json
import logging
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from radixroute.metrics.page import Part
from radixroute.router.core.logs.tape import (
    Begun,
    Closed,
    Opened,
    Record,
    Refused,
    Reported,
    Sent,
)
from radixroute.router.messages.inputs import RequestSpec

NAME: Final = "radixroute.access"
MAX_OPEN: Final = 1 << 16
_NS_PER_MS: Final = 1e6

access = logging.getLogger(NAME)


class _Open(msgspec.Struct):
    """What a line needs of a request that has not ended. Times: -1 is never."""

    arrival_ns: int
    sent_ns: int = -1
    first_ns: int = -1
    attempt: int = 0
    cached_tokens: int = -1
    predicted_tokens: int = -1


class AccessLog:
    """Implements `Reader`."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}
        access.setLevel(logging.INFO)

    @property
    def parts(self) -> Sequence[Part[Any]]:
        return ()

    def read(self, records: Sequence[Record], now_ns: int) -> None:
        for record in records:
            match record:
                case Opened(spec=spec, now_ns=at_ns):
                    if len(self._open) < MAX_OPEN:
                        self._open[spec.request_id] = _Open(at_ns)
                case Sent() | Begun() | Reported():
                    one = self._open.get(record.request_id)
                    if one is not None:
                        _note(one, record)
                case Closed():
                    one = self._open.pop(record.spec.request_id, None) or _Open(record.now_ns)
                    access.info("%s", _ended(record, one))
                case Refused():
                    access.info("%s", _refused(record))
                case _:
                    pass

    async def stop(self) -> None:
        """There is nothing to be ended."""


def _note(one: _Open, record: Sent | Begun | Reported) -> None:
    match record:
        case Sent():
            one.attempt = record.attempt
            if one.sent_ns < 0:
                one.sent_ns, one.predicted_tokens = record.now_ns, record.predicted_tokens
        case Begun():
            one.first_ns = record.now_ns if one.first_ns < 0 else one.first_ns
        case Reported() if record.is_first:
            one.cached_tokens = record.facts.cached_tokens


def _ended(record: Closed, one: _Open) -> str:
    usage, spec = record.usage, record.spec
    fields = _whose(spec, record.outcome, record.failure.value if record.failure else "")
    return _line(
        fields
        | {
            "worker": usage.worker_id,
            "decision": f"{spec.request_id}/{one.attempt}" if one.attempt else "",
            "attempts": usage.attempts,
            "cached_tokens": one.cached_tokens,
            "predicted_tokens": one.predicted_tokens,
            "output_tokens": usage.output_tokens,
        }
        | _times(one, record.now_ns)
    )


def _refused(record: Refused) -> str:
    return _line(_whose(record.spec, "refused", record.failure.value))


def _whose(spec: RequestSpec, outcome: str, reason: str) -> dict[str, object]:
    return {
        "request": spec.request_id,
        "outcome": outcome,
        "reason": reason,
        "tenant": spec.tenant,
        "adapter": spec.scope.lora,
        "policy": spec.policy,
        "priority": spec.priority,
        "prompt_tokens": spec.prompt_tokens,
    }


def _times(one: _Open, end_ns: int) -> dict[str, object]:
    """Without those that never came."""
    found: dict[str, object] = {}
    for name, ns in (("queue_ms", one.sent_ns), ("ttft_ms", one.first_ns), ("ms", end_ns)):
        if ns >= 0:
            found[name] = round((ns - one.arrival_ns) / _NS_PER_MS, 1)
    return found


def _line(fields: dict[str, object]) -> str:
    """What is empty or not known is left out."""
    return " ".join(
        f"{name}={json.dumps(value) if isinstance(value, str) else value}"
        for name, value in fields.items()
        if value not in ("", -1)
    )
