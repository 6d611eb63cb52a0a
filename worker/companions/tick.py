"""Ticks: what an engine that is not ours put out, as the steps that it made.

`Tick` collects the outputs and events of one turn of the loop, so that a step of the engine that
answers many requests becomes one message to each router. `StepMeter` finds the engine's own steps
among what arrives: outputs between two of the same request are of one step. It times them from
first output to first output while the engine is busy. No clock.
"""

import asyncio
from collections import deque
from collections.abc import Callable, Sequence
from statistics import median
from typing import Final

from radixroute.events.wire.records import Event
from radixroute.radix.ids import Tokens
from radixroute.worker.companions.calls import Call
from radixroute.worker.engine.engine import TokenOutput

# A step that took so many times as long as usual waited for something else.
_OUTLIER: Final = 10.0
_KEPT: Final = 33
_MIN_KEPT: Final = 8
# Turns of the loop that an output waits for those of the same step, at most.
MOST_TURNS: Final = 32


class Tick:
    """Outputs and events that come together; then `flush` takes them as one step.

    An engine answers all that run there in each step, one after another: while more of them come
    with each turn of the loop and some are missing, they are waited for. What is alone waits for
    one turn that brings nothing.
    """

    def __init__(self, flush: Callable[[], None], n_running: Callable[[], int]) -> None:
        """`n_running`: how many may have an output in a step."""
        self._flush = flush
        self._n_running = n_running
        self._is_due = False
        self._n_seen = self._n_turns = 0  # outputs, by the last of so many turns
        self._outputs: list[TokenOutput] = []
        self._events: dict[int, list[Event]] = {}  # by rank

    def output(self, output: TokenOutput) -> None:
        self._outputs.append(output)
        if not self._is_due:
            self.wake()

    def events(self, events: Sequence[Event], rank: int = 0) -> None:
        self._events.setdefault(rank, []).extend(events)
        self.wake()

    def wake(self) -> None:
        """A step is made in the loop's next turn, of nothing if nothing comes."""
        if not self._is_due:
            self._is_due = True
            self._n_seen = self._n_turns = 0
            asyncio.get_running_loop().call_soon(self._run)

    def take(self) -> tuple[tuple[TokenOutput, ...], dict[int, tuple[Event, ...]]]:
        """Since the last call; events by rank."""
        taken = tuple(self._outputs), {rank: tuple(one) for rank, one in self._events.items()}
        self._outputs.clear()
        self._events.clear()
        return taken

    def _run(self) -> None:
        n_seen, self._n_seen = self._n_seen, len(self._outputs)
        self._n_turns += 1
        if n_seen < self._n_seen < self._n_running() and self._n_turns < MOST_TURNS:
            asyncio.get_running_loop().call_soon(self._run)
            return
        self._is_due = False
        self._flush()


class StepMeter:
    """The engine's steps, found among its outputs."""

    def __init__(self, block_size: int) -> None:
        """`block_size`: in tokens; what prompts of one step share is whole blocks."""
        self._block_size = block_size
        self._members: set[Call] = set()  # who has an output of the open step
        self._prompts: list[Call] = []  # those whose first it was
        self._started_ns = 0  # when the open step's first output came
        self._before_ns = 0  # when it began
        self._earlier_ns = 0  # and the one before it
        self._is_spread = False  # a prompt of it was computed in earlier steps, too
        self._prefill = self._decode = 0  # prompt tokens; requests that decoded
        self._n_tokens = 1  # the most that one of them got
        self._usual_tokens = 1  # the same of the last step that only decoded
        self._closed: list[tuple[float, int, int]] = []
        self._usual: deque[float] = deque(maxlen=_KEPT)
        self._usual_ms: float | None = None  # the median of these, now and then
        self._n_closed = 0
        self.outliers = 0

    def busy(self, now_ns: int) -> None:
        """The engine was idle, and has a request from now on."""
        self._close()
        self._earlier_ns = self._before_ns = self._started_ns = now_ns

    def output(self, call: Call, n_tokens: int, now_ns: int, *, is_first: bool) -> None:
        """Tokens of one call arrived."""
        if call in self._members:
            self._close()
        if not self._members:
            self._earlier_ns, self._before_ns = self._before_ns, self._started_ns
            self._started_ns = now_ns
        self._members.add(call)
        if is_first:
            self._prefill += self._computed(call)
            self._prompts.append(call)
            self._is_spread = self._is_spread or call.submitted_ns < self._earlier_ns
        else:
            self._decode += 1
            self._n_tokens = max(self._n_tokens, n_tokens)

    def unread(self) -> None:
        """A prompt of which nobody knows what it took was in the open step, or before."""
        self._is_spread = True

    def idle(self) -> None:
        """Nothing runs there: what arrived was the last step."""
        self._close()

    def take(self) -> tuple[float, int, int]:
        """Milliseconds, prompt tokens and requests that decoded of a step that was over; zeros: of
        none.

        One of several, should more than one have ended: each is as good a sample.
        """
        if not self._closed:
            return 0.0, 0, 0
        last = self._closed[-1]
        self._closed.clear()
        return last

    def _computed(self, call: Call) -> int:
        """Prompt tokens that the engine computed for it in the open step: a block is there to be
        hit as soon as it is planned, so that prompts of one step share what is new to both."""
        least = call.uncached_tokens
        for other in self._prompts:
            if call.request.scope == other.request.scope:
                n_shared = _n_shared(call.request.prompt, other.request.prompt)
                n_hit = n_shared // self._block_size * self._block_size
                least = min(least, call.request.n_tokens - n_hit)
        return max(least, 1)

    def _close(self) -> None:
        members, self._members = self._members, set()
        self._prompts.clear()
        prefill, decode, self._prefill, self._decode = self._prefill, self._decode, 0, 0
        is_spread, self._is_spread = self._is_spread, False
        n_tokens, self._n_tokens = self._n_tokens, 1
        if members and not prefill:
            self._usual_tokens = n_tokens
        # Several tokens of a request at once are several steps, told of late: without a prompt
        # they took as long each. An engine that guesses ahead makes them in one.
        is_merged = n_tokens > self._usual_tokens
        if not members or is_spread or (prefill and is_merged):
            return
        took_ms = (self._started_ns - self._before_ns) / 1e6
        if not prefill:
            took_ms /= n_tokens
        usual = self._usual_ms
        self._usual.append(took_ms)
        self._n_closed += 1
        if self._n_closed % _MIN_KEPT == 0:
            self._usual_ms = median(self._usual)
        if usual is not None and took_ms > _OUTLIER * usual and not prefill:
            self.outliers += 1
        elif prefill + decode:
            self._closed.append((took_ms, prefill, decode))


def _n_shared(one: Tokens, other: Tokens) -> int:
    """Tokens in which both begin alike."""
    n = min(len(one), len(other))
    differs = one[:n] != other[:n]
    return int(differs.argmax()) if differs.any() else n
