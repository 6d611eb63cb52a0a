"""Collector: a tape's requests as the rows that shadows take, in order of arrival, each once.

Owns the requests that have not ended, or wait for an earlier one that has not. A shadow needs to
know how long an answer is, which nobody does before its end: so shadows run behind, as far as the
longest answer takes, and no further than `lag_ns`; an answer that takes longer is given the length
that answers had lately, and counted. Pure: no clock, no process.
"""

from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

import msgspec
import numpy as np

from radixroute.insight.shadow.messages import Batch, Live, ShadowChange, ShadowRow
from radixroute.radix.ids import Keys, WorkerId
from radixroute.replay.changes import DIE, DRAIN, JOIN
from radixroute.router.core.liveness.membership import UNLISTED
from radixroute.router.core.logs.tape import (
    LEASED,
    Begun,
    Closed,
    Opened,
    Record,
    Reported,
    Sent,
    WorkerJoined,
    WorkerLost,
)
from radixroute.router.messages.inputs import RequestSpec, packed_len

OUTPUT_MEMORY: Final = 50.0  # requests, of the mean length of answers
FIRST_OUTPUT: Final = 64.0
MAX_OPEN: Final = 1 << 16  # requests; those beyond are left out, and counted

# Keys of the full blocks of a prompt and what was put out behind it, from the prompt's keys.
OutputKeys = Callable[[RequestSpec, bytes], Keys]


class _Open(msgspec.Struct):
    """A request of which no shadow knows yet."""

    tag: int
    spec: RequestSpec
    arrival_ns: int
    worker: WorkerId | None = None
    ttft_ns: int = -1
    cached_tokens: int = -1
    predicted_tokens: int = 0
    emitted: bytes | None = None  # None: it has not ended
    is_left_out: bool = False


class Asked(NamedTuple):
    """What really happened with a request that shadows are fed with."""

    request_id: str
    live: Live


class Taken(NamedTuple):
    """What is known by now and was not before."""

    batch: Batch
    asked: tuple[Asked, ...]  # one for each of its rows


@dataclass
class Collected:
    """What became of requests, in counts."""

    rows: int = 0
    cut: int = 0  # their answers took too long: given a usual length
    left_out: dict[str, int] = field(default_factory=dict)  # by why

    def leave_out(self, why: str) -> None:
        self.left_out[why] = self.left_out.get(why, 0) + 1


class Collector:
    """One router's, for one fleet."""

    def __init__(
        self, workers: Iterable[WorkerId], began_ns: int, lag_ns: int, output_keys: OutputKeys
    ) -> None:
        """`workers`: of the shadows' fleet; `began_ns`: when their time begins."""
        self._number = {worker: number for number, worker in enumerate(workers)}
        self._began_ns, self._lag_ns = began_ns, lag_ns
        self._output_keys = output_keys
        self._open: dict[str, _Open] = {}
        self._line: deque[_Open] = deque()  # in order of arrival
        self._changes: list[ShadowChange] = []
        self._there = set(self._number)
        self._mean_output = FIRST_OUTPUT
        self._next_tag = 1
        self._known_ns = began_ns
        self.counts = Collected()

    def knows(self, worker_id: WorkerId) -> bool:
        """Whether it is of the shadows' fleet."""
        return worker_id in self._number

    def read(self, record: Record) -> None:
        """In the tape's order."""
        match record:
            case Opened():
                self._opened(record)
            case Sent() if (one := self._open.get(record.request_id)) and one.worker is None:
                one.worker = record.decision.worker_id
                one.predicted_tokens = record.predicted_tokens
            case Begun() if (one := self._open.get(record.request_id)) and one.ttft_ns < 0:
                one.ttft_ns = record.now_ns - one.arrival_ns
            case Reported() if (one := self._open.get(record.request_id)) and record.is_first:
                one.cached_tokens = record.facts.cached_tokens
            case Closed():
                self._closed(record)
            case WorkerLost():
                kind = DRAIN if record.reason == UNLISTED else DIE
                self._change(record.worker_id, kind, record.now_ns)
            case WorkerJoined():
                self._change(record.facts.worker_id, JOIN, record.now_ns)
            case _:
                pass  # what a shadow decides anew

    def take(self, now_ns: int) -> Taken:
        """All that is known by now and was not taken before."""
        rows, asked = list[ShadowRow](), list[Asked]()
        late_ns = now_ns - self._lag_ns
        while self._line and (
            self._line[0].emitted is not None or self._line[0].arrival_ns < late_ns
        ):
            one = self._line.popleft()
            if one.emitted is None:
                self._open.pop(one.spec.request_id)
                self.counts.cut += not one.is_left_out
            if not one.is_left_out:
                rows.append(self._row(one))
                asked.append(Asked(one.spec.request_id, self._live(one)))
        self.counts.rows += len(rows)
        # A request that comes at this very time is not on the tape yet.
        known_ns = self._line[0].arrival_ns if self._line else now_ns
        self._known_ns = max(self._known_ns, known_ns)
        until_ns = self._known_ns - self._began_ns
        ready = [one for one in self._changes if one.at_ns < until_ns]
        self._changes = self._changes[len(ready) :]
        return Taken(Batch(until_ns, tuple(rows), tuple(ready)), tuple(asked))

    def _opened(self, record: Opened) -> None:
        spec = record.spec
        if record.now_ns < self._known_ns:
            return
        if len(self._line) >= MAX_OPEN:
            self.counts.leave_out("too_many")
            return
        one = _Open(self._next_tag, spec, record.now_ns)
        self._next_tag += 1
        if not spec.is_read:
            self._leave_out(one, "unread")
        elif spec.resumed is not None:
            self._leave_out(one, "resumed")
        self._open[spec.request_id] = one
        self._line.append(one)

    def _closed(self, record: Closed) -> None:
        one = self._open.pop(record.spec.request_id, None)
        if one is None:
            return
        one.emitted = bytes(record.emitted)
        n_output = packed_len(one.emitted)
        if record.outcome == LEASED:
            self._leave_out(one, "leased")
        elif not n_output:
            self._leave_out(one, "without_answer")
        if not one.is_left_out:
            self._mean_output += (n_output - self._mean_output) / OUTPUT_MEMORY

    def _leave_out(self, one: _Open, why: str) -> None:
        if not one.is_left_out:
            self.counts.leave_out(why)
        one.is_left_out = True

    def _change(self, worker_id: WorkerId, kind: str, now_ns: int) -> None:
        number = self._number.get(worker_id)
        if number is None or (kind == JOIN) == (worker_id in self._there):
            return
        if kind == JOIN:
            self._there.add(worker_id)
        else:
            self._there.remove(worker_id)
        at_ns = max(0, now_ns - self._began_ns)
        self._changes.append(ShadowChange(at_ns, number, kind))

    def _row(self, one: _Open) -> ShadowRow:
        spec = one.spec
        emitted = one.emitted
        if emitted is None:
            n_output, keys = max(1, round(self._mean_output)), spec.keys
        else:
            n_output, keys = packed_len(emitted), self._output_keys(spec, emitted)
        return ShadowRow(
            tag=one.tag,
            arrival_ns=one.arrival_ns - self._began_ns,
            prompt_tokens=spec.prompt_tokens,
            output_tokens=n_output,
            n_prompt_blocks=len(spec.keys),
            keys=np.ascontiguousarray(keys, "<u8").tobytes(),
            session=spec.session,
            last_of=spec.last_of_session or 0,
            priority=spec.priority,
        )

    def _live(self, one: _Open) -> Live:
        number = -1 if one.worker is None else self._number.get(one.worker, -1)
        return Live(number, one.ttft_ns, one.cached_tokens, one.predicted_tokens)
