"""What the terminal shows of the answers to one prompt: text on stdout, all about it on stderr.

Owns the order: the first answer that is not complete streams, those behind it wait their turn.
"""

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from radixroute.cli.console import share, tell
from radixroute.errors import RequestFailed

if TYPE_CHECKING:
    from radixroute.answer import Delta, Usage
    from radixroute.request.logprobs import TokenLogprob


@dataclass(slots=True)
class _Answer:
    """What has come of one."""

    text: list[str] = field(default_factory=list)  # not printed yet
    token_ids: list[int] = field(default_factory=list)
    logprobs: "list[TokenLogprob]" = field(default_factory=list)
    request_id: str = ""
    finish: str = ""  # empty: more comes
    usage: "Usage | None" = None
    first_token_s: float | None = None  # at this client
    total_s: float = 0.0


class AnswersShown:
    """Of one prompt, as they come."""

    def __init__(self, n: int) -> None:
        self._n = n
        self._answers: dict[int, _Answer] = {}
        self._turn = 0

    def show(self, deltas: "Iterable[Delta]") -> None:
        """Raises `RequestFailed` if they stop before all are complete."""
        started = time.perf_counter()
        for delta in deltas:
            _take(self._answers.setdefault(delta.index, _Answer()), delta, started)
            self._print()
            if self._turn == self._n:
                return
        raise RequestFailed("the stream ended before the answer was complete; try again")

    def _print(self) -> None:
        while (answer := self._answers.get(self._turn)) is not None:
            sys.stdout.write("".join(answer.text))
            answer.text.clear()
            if not answer.finish:
                break
            sys.stdout.write("\n")
            sys.stdout.flush()
            _report(answer)
            self._turn += 1
        sys.stdout.flush()


def _take(answer: _Answer, delta: "Delta", started: float) -> None:
    elapsed_s = time.perf_counter() - started
    if answer.first_token_s is None and delta.token_ids:
        answer.first_token_s = elapsed_s
    answer.request_id = delta.request_id
    answer.usage = delta.usage or answer.usage
    answer.text.append(delta.text)
    if delta.logprobs:
        answer.token_ids += delta.token_ids
        answer.logprobs += delta.logprobs
    if delta.finish is not None:
        answer.finish, answer.total_s = delta.finish.name.lower(), elapsed_s


def _logprob_line(token_id: int, told: "TokenLogprob") -> str:
    line = f"token {token_id}: {told.logprob:.4f}"
    if not told.top:
        return line
    return f"{line} \u00b7 likeliest {', '.join(f'{i}: {value:.4f}' for i, value in told.top)}"


def _report(answer: _Answer) -> None:
    """On stderr: stdout has the answer alone."""
    for token_id, told in zip(answer.token_ids, answer.logprobs, strict=True):
        tell(_logprob_line(token_id, told))
    usage = answer.usage
    parts = []
    if usage is not None:
        parts += _served(usage)
    if answer.first_token_s is not None:
        parts.append(f"TTFT {1000 * answer.first_token_s:.0f} ms")
    if usage is not None:
        parts.append(f"{usage.output_tokens} tokens in {answer.total_s:.2f} s")
    if usage is not None and usage.attempts > max(1, len(usage.by_attempt)):
        parts.append(f"{usage.attempts} attempts")
    tell(" \u00b7 ".join([*parts, answer.finish, f"request {answer.request_id}"]))


def _served(usage: "Usage") -> list[str]:
    """Where it ran and what was cached there; of a request that was moved, each worker."""
    if not usage.prompt_tokens:
        return [usage.worker_id]  # the prompt is counted with the first answer
    if len(usage.by_attempt) < 2:
        return [usage.worker_id, _cached(usage.cached_tokens, usage.prompt_tokens)]
    parts = []
    for number, one in enumerate(usage.by_attempt, start=1):
        if one.cached_tokens is None:
            cached = "lost before it said what was cached"
        else:
            cached = _cached(one.cached_tokens, usage.prompt_tokens)
        parts.append(f"attempt {number} on {one.worker_id}: {cached}")
    return parts


def _cached(cached: int, prompt: int) -> str:
    return f"{cached} of {prompt} prompt tokens cached ({share(cached, prompt)})"
