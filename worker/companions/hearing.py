"""Hearing: what an engine that is not ours says of its calls, told as steps of ours.

Owns the calls under way and what came of them since the last step: outputs, cache events, bytes
that go by, and how long the engine's own steps took. Its `Companion` says what is sent there, and
who lives. Sends nothing; on one event loop.
"""

import time
from collections.abc import Callable, Sequence
from typing import Final

from radixroute.events.wire.records import Event
from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.calls import Call, Calls
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.health import Vitals
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.measures.counters import CANCELLED, CompanionCounters
from radixroute.worker.companions.ranks import Ranks
from radixroute.worker.companions.tick import StepMeter, Tick
from radixroute.worker.companions.verbatim.lane import Lane
from radixroute.worker.engine.engine import EngineRequest, EngineStep, MoreOutput, TokenOutput
from radixroute.worker.engine.host import EngineListener

# What ends an answer without a token that is no refusal.
_ENDS_OF_NOTHING: Final = (FinishReason.STOP, FinishReason.LENGTH, FinishReason.ABORT)


class Hearing:
    """Of one life of an engine. Nothing is told before `begin`, and nothing after `end`."""

    def __init__(
        self,
        listener: EngineListener,
        vitals: Vitals,
        counters: CompanionCounters,
        on_fault: Callable[[], None],
    ) -> None:
        """`on_fault`: something was said that may be the engine's end."""
        self._listener = listener
        self._vitals = vitals
        self._counters = counters
        self._on_fault = on_fault
        self.calls = Calls(1)
        self._meter = StepMeter(1)
        self._tick = Tick(self._flush, lambda: len(self.calls))
        self.lane = Lane(self._tick.wake)  # of verbatim answers
        self._total_blocks = 0
        self._ranks: Ranks | None = None  # None: not begun, or ended
        self._n_steps = 0

    def begin(self, joined: Joined, ranks: Ranks) -> None:
        """It has joined: what was told of its caches until now is told, too."""
        self.calls = Calls(joined.info.block_size)
        self._meter = StepMeter(joined.info.block_size)
        self._total_blocks = joined.info.kv_blocks_total
        self._ranks = ranks
        self._tick.wake()

    def end(self) -> None:
        """Idempotent."""
        self._ranks = None

    def forget_events(self) -> None:
        """What was told of caches until now was not true, and nobody has heard of it."""
        self._tick.take()

    # -- what the companion does

    def sent(self, request: EngineRequest, *, uncached_tokens: int, rank: int) -> Call:
        """It is on its way there."""
        now_ns = time.monotonic_ns()
        if not len(self.calls):
            self._meter.busy(now_ns)
            self._vitals.busy(now_ns)
        return self.calls.begin(request, uncached_tokens=uncached_tokens, now_ns=now_ns, rank=rank)

    def output(self, output: TokenOutput) -> None:
        """Said without asking the engine."""
        self._tick.output(output)

    def events(self, events: Sequence[Event], rank: int) -> None:
        """One of its caches holds more, or less."""
        self._tick.events(events, rank)

    def wake(self) -> None:
        """Routers are to hear how it does, whether anything came or not."""
        self._tick.wake()

    def cancel(self, call: Call) -> None:
        """Nobody waits for it any more."""
        now_ns = time.monotonic_ns()
        self._believe(call, None, now_ns)
        if call.relaying is not None and call.relaying.is_paused:
            self._vitals.alive_ns = now_ns  # it waited for its client
        self._tick.output(self.calls.cancel(call))
        self._counters.ended(CANCELLED)
        self._rest_if_idle()

    def forget_session(self, session_id: str) -> None:
        """The same of all its calls; nobody is told."""
        before = len(self.calls)
        if before and not self.calls.busy_ranks:
            self._vitals.alive_ns = time.monotonic_ns()  # it waited for its clients
        self.calls.forget_session(session_id)
        self._counters.ends[CANCELLED] += before - len(self.calls)
        self._rest_if_idle()

    # -- what the engine says

    def hear(self, call: Call, heard: Heard) -> None:
        """There is one a token: what is not of each is `_hear_more`'s."""
        now_ns = time.monotonic_ns()
        is_first = call.first_ns is None
        output = self.calls.hear(call, heard, now_ns)
        if output is not None:
            self._vitals.alive_ns = now_ns
            self._counters.heard(heard)
            if call.belief is not None:
                self._believe(call, heard, now_ns)
            if heard.token_ids:
                self._vitals.moved_ns = now_ns
                self._meter.output(call, len(heard.token_ids), now_ns, is_first=is_first)
                if heard.finish is None:
                    self._tick.output(output)
                    return
        self._hear_more(call, heard, output, is_first=is_first)

    def _hear_more(
        self, call: Call, heard: Heard, output: TokenOutput | None, *, is_first: bool
    ) -> None:
        """An end, or bytes of a verbatim answer; nobody may wait for it any more."""
        if heard.is_engine_fault:
            self._on_fault()
        if output is None:
            return
        if heard.finish in (FinishReason.ABORT, FinishReason.ERROR) and call.exchange is not None:
            call.exchange.cancel()  # whatever it still has to say, nobody hears it
        passage = heard.passage
        if passage is not None:
            now_ns = time.monotonic_ns()
            self._vitals.moved(now_ns)
            if is_first:
                self._meter.unread()
            elif passage.n_tokens:
                self._meter.output(call, passage.n_tokens, now_ns, is_first=False)
        is_empty = is_first and not heard.token_ids and passage is None
        if is_empty and output.finish not in _ENDS_OF_NOTHING:
            self._listener.on_refused(output)
        else:
            self._tick.output(output)
        self._rest_if_idle()

    def _believe(self, call: Call, heard: Heard | None, now_ns: int) -> None:
        """None: nothing more is heard of it."""
        believed = None if self._ranks is None else self._ranks.caches[call.rank].believed
        if self._ranks is None or believed is None or call.belief is None:
            return
        if heard is None:
            events: Sequence[Event] = believed.ended(call.belief, now_ns)
        else:
            events = believed.took(call.belief, heard, now_ns)
        if events:
            self._ranks.changed(events, call.rank)

    def _rest_if_idle(self) -> None:
        if not len(self.calls):
            self._meter.idle()
            self._vitals.rests(time.monotonic_ns())

    # -- what is told

    def _flush(self) -> None:
        """What came since the loop's last turn, as one step."""
        ranks = self._ranks
        if ranks is None:
            return  # until it has joined nobody knows its ranks
        now_ns = time.monotonic_ns()
        outputs, events = self._tick.take()
        more = self.lane.take(self.calls, self._meter, now_ns)
        if more:
            self._vitals.moved(now_ns)
        # Events first: whoever sees a first token should find its blocks soon after.
        *others, last = sorted(events) or (0,)
        for rank in others:
            self._say(ranks, events[rank], rank)
        self._say(ranks, events.get(last, ()), last, outputs, self._meter.take(), more)

    def _say(
        self,
        ranks: Ranks,
        events: tuple[Event, ...],
        rank: int,
        outputs: tuple[TokenOutput, ...] = (),
        timed: tuple[float, int, int] = (0.0, 0, 0),
        more: tuple[MoreOutput, ...] = (),
    ) -> None:
        step_ms, prefill_tokens, decode_tokens = timed
        self._n_steps += 1
        total = self._total_blocks
        self._listener.on_step(
            EngineStep(
                step=self._n_steps,
                outputs=outputs,
                events=events,
                step_ms=step_ms,
                prefill_tokens=prefill_tokens,
                decode_tokens=decode_tokens,
                kv_blocks_used=ranks.blocks_used(
                    total, round(self._vitals.latest.kv_usage * total)
                ),
                sessions=self.calls.progress(),
                rank=rank,
                more=more,
            )
        )
