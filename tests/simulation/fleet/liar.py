"""A liar: what a worker says that is not so, of one kind at a time, as long as it lasts.

Nothing here is on the router's side: a lie goes over the same wires as the truth.
"""

import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from math import inf, nan
from typing import TYPE_CHECKING

import numpy as np
from msgspec import structs

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, Event, LoadReport
from radixroute.radix.ids import Keys
from radixroute.request.sampling import FinishReason
from radixroute.router.messages.inputs import Delta, PackedTokens, StepReport
from tests.simulation import adapter
from tests.simulation.agenda import Agenda

if TYPE_CHECKING:
    from tests.simulation.fleet.life import Life

_NOTHING = PackedTokens(b"")
_ENDS = {
    "gives_up": FinishReason.ABORT,
    "errors": FinishReason.ERROR,
    "refuses": FinishReason.INVALID,
    "full": FinishReason.FULL,
}


class Liar:
    """Of one worker. Honest until told otherwise."""

    def __init__(
        self,
        agenda: Agenda,
        rng: random.Random,
        prompts: Sequence[Keys],
        held: Callable[[int], Sequence[int]],
    ) -> None:
        """`prompts`: that clients send, whoever has them; `held`: of one of them by number, how
        many first blocks each other worker holds."""
        self._agenda = agenda
        self._rng = rng
        self._prompts = prompts
        self._held = held
        self._kind = ""
        self._until_ns = 0
        self._is_all = False  # it ends all that it may end, not some
        self._owes_root = False  # it has still to tell its one false root
        self._last: list[Delta] = []
        self.has_told_roots = False  # false ones
        self.has_told_blocks = False  # that it has not
        self.has_told_times = False  # of its steps, false ones

    def begin(self, kind: str, until_ns: int) -> None:
        self._kind, self._until_ns = kind, until_ns
        self._is_all = self._rng.random() < 0.5
        self._owes_root = kind == "one_root"

    @property
    def kind(self) -> str:
        return self._kind if self._agenda.now_ns < self._until_ns else ""

    def reports(self, life: "Life", report: StepReport) -> list[StepReport]:
        """What it says instead of this one."""
        rng, said = self._rng, [report]
        match self.kind:
            case "repeats":
                said.append(structs.replace(report, deltas=_placed(report), more=()))
            case "skips" if rng.random() < 0.5:
                # Not the last: nothing would follow that shows the hole.
                lost = next((d for d in _placed(report) if d.finish is None), None)
                kept = tuple(d for d in report.deltas if d is not lost)
                said = [structs.replace(report, deltas=kept)]
            case "gives_up" | "errors" | "refuses" | "full" if self._is_all or rng.random() < 0.1:
                said += self._end_some(life)
            case "old_attempt" | "others":
                said.insert(
                    0,
                    structs.replace(report, step_ms=0.0, deltas=self._false(report), more=()),
                )
            case "speed":
                self.has_told_times = True
                ms = rng.choice((0.0, 1e-9, 1e7, -5.0, inf, nan))
                lie = structs.replace(report, step_ms=ms, prefill_tokens=rng.choice((0, 10**9)))
                said = [adapter.over_the_wire(lie)]
        return said

    def _false(self, report: StepReport) -> tuple[Delta, ...]:
        """Outputs in the right place, of an attempt before; or of requests of the step before."""
        old, self._last = self._last, list(_placed(report))
        if self.kind == "others":
            return tuple(old)
        return tuple(structs.replace(d, attempt=max(0, d.attempt - 1)) for d in report.deltas)

    def events(self, life: "Life") -> tuple[Event, ...]:
        """What it says of its cache besides."""
        if self.kind == "one_root":
            return self._one_root()
        if self.kind not in ("claims", "false_roots", "phantoms") or not self._prompts:
            return ()
        number = self._rng.randrange(len(self._prompts))
        keys = self._prompts[number]
        if self.kind == "claims" and len(keys):
            self.has_told_blocks = True
            return (BlocksStored(None, keys),)
        if self.kind == "false_roots" and len(keys) > 2:
            place = self._rng.randrange(1, len(keys))
            self.has_told_roots = self.has_told_blocks = True
            return (BlocksStored(None, keys[place : place + 2]),)
        if self.kind == "phantoms":
            return (BlocksRemoved(np.array([self._rng.getrandbits(63) + 1], np.uint64)),)
        return ()

    def _one_root(self) -> tuple[Event, ...]:
        """The block after all that one worker alone has of a prompt: nobody contradicts it."""
        numbers = range(len(self._prompts)) if self._owes_root else ()
        for number in numbers:
            keys, held = self._prompts[number], [n for n in self._held(number) if n]
            if len(held) == 1 and held[0] < len(keys):
                self._owes_root = False
                self.has_told_roots = self.has_told_blocks = True
                return (BlocksStored(None, keys[held[0] : held[0] + 1]),)
        return ()

    def load(self, load: LoadReport) -> LoadReport:
        if self.kind != "load":
            return load
        rng = self._rng
        lies = tuple(
            replace(
                session,
                acknowledged_dispatch=rng.choice((0, session.acknowledged_dispatch, 10**9)),
                in_flight=rng.choice((0, 1000)),
                queued_tokens=rng.choice((0, 10**7)),
            )
            for session in load.sessions
        )
        age_ms = rng.choice((0.0, -1000.0, 6000.0))
        return replace(load, step_age_ms=age_ms, kv_blocks_total=rng.choice((0, 50)), sessions=lies)

    def _end_some(self, life: "Life") -> list[StepReport]:
        """One of those that run there, or all: a report for each."""
        running = [r for place, r in life.engine.requests.items() if place[0] == "router"]
        if not self._is_all and running:
            running = [self._rng.choice(running)]
        reports = []
        for request in running:
            life.engine.abort(request.place)
            name, how = request.spec.request_id, _ENDS[self.kind]
            delta = Delta(name, request.attempt, request.position, _NOTHING, "", how)
            reports.append(StepReport(0.0, 0, 0, (delta,)))
        return reports


def _placed(report: StepReport) -> tuple[Delta, ...]:
    """Outputs that say where they belong: bytes that go by do not, so nobody sees a false one."""
    return tuple(delta for delta in report.deltas if delta.passage is None)
