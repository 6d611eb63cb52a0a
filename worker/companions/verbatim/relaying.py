"""Relaying: one answer of an engine that goes to its client as it is, byte by byte.

What comes before the answer's first byte may still be an error that sends the request elsewhere;
from then on bytes go by, as many as its client takes: with none to spare, the engine's connection
is not read. Whatever happens, exactly one thing with a finish is heard, and nothing after it. On
the event loop.
"""

from collections.abc import Callable
from typing import Final, Protocol

from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import STREAM, Passage
from radixroute.worker.companions.dialects.dialect import Dialect, Heard, PassageReader
from radixroute.worker.companions.listening import CUT, UNREACHED
from radixroute.worker.companions.verbatim.lane import Lane
from radixroute.worker.engine.engine import EngineRequest

# An answer that comes whole is held until it is whole, so that what it says of itself is known with
# its first byte; a larger one goes as it comes.
MOST_HELD_BYTES: Final = 64 * 1024
_KEY_REFUSED: Final = "the engine does not take the key of this companion"
_FULL: Final = "the engine's queue is full; try another worker"
_FAILED: Final = "the engine failed this request"


class Pausable(Protocol):
    """What brings the answer."""

    def pause(self) -> None: ...

    def resume(self) -> None: ...


class Relaying:
    """Implements `radixroute.worker.companions.http.client.AnswerSink`."""

    def __init__(
        self, request: EngineRequest, dialect: Dialect, hear: Callable[[Heard], None], lane: Lane
    ) -> None:
        """`hear` is told how the answer begins and ends; between the two it goes by `lane`. No more
        bytes than the request's allowance; `allow` gives more."""
        self.request = request
        self._dialect = dialect
        self._hear = hear
        self._lane = lane
        self._allowance = request.allowance
        self._source: Pausable | None = None
        self._reader: PassageReader | None = None  # None: what comes is no answer for its client
        self._status = 0
        self._content_type = ""
        self._held: list[bytes] = []
        self._n_held = 0
        self._has_begun = self._is_over = False

    @property
    def is_paused(self) -> bool:
        """It waits for its client: the engine may have no more to do."""
        return self._allowance <= 0

    def bring(self, source: Pausable) -> None:
        """From there it comes."""
        self._source = source

    def allow(self, n_bytes: int) -> None:
        was_paused, self._allowance = self.is_paused, self._allowance + n_bytes
        if was_paused and not self.is_paused and self._source is not None:
            self._source.resume()

    # -- AnswerSink

    def head(self, status: int, content_type: str) -> None:
        self._status, self._content_type = status, content_type
        if not _is_elsewhere(status):
            is_stream = content_type.startswith(STREAM)
            self._reader = self._dialect.passages(is_stream=is_stream)

    def body(self, data: bytes) -> None:
        reader = self._reader
        if reader is None or self._is_over:
            return
        reader.feed(data)
        self._held.append(data)
        if self._has_begun:
            if len(self._held) == 1:
                self._lane.add(self)
            self._spend(len(data))
            return
        self._n_held += len(data)
        is_known = self._content_type.startswith(STREAM) and reader.has_event
        if is_known and self._is_broken(reader):
            self._finish(FinishReason.ERROR, _FAILED, is_engine_fault=True)
        elif is_known or self._n_held > MOST_HELD_BYTES:
            self._pass()

    def take(self) -> tuple[bytes, int]:
        """For the lane."""
        reader, held = self._reader, self._held
        if reader is None or self._is_over or not held:
            return b"", 0
        self._held = []
        return held[0] if len(held) == 1 else b"".join(held), reader.take_tokens()

    def ended(self) -> None:
        reader = self._reader
        if reader is None:
            self._refuse()
            return
        reader.end()
        if not self._has_begun and self._is_broken(reader):
            self._finish(FinishReason.ERROR, _FAILED, is_engine_fault=True)
        else:
            self._pass(FinishReason.STOP)

    def failed(self, *, was_sent: bool) -> None:
        """What was sent may be what ended the engine: that counts as a death of its own."""
        if was_sent:
            self._finish(FinishReason.ABORT, CUT, is_engine_fault=True)
        else:
            self._finish(FinishReason.FULL, UNREACHED, is_engine_fault=True)

    # -- inside

    def _pass(self, finish: FinishReason | None = None) -> None:
        """What is held goes to its client."""
        reader, data = self._reader, b"".join(self._held)
        self._held = []
        if reader is None or self._is_over or not (data or finish):
            return
        is_first, self._has_begun = not self._has_begun, True
        passage = Passage(
            data,
            reader.take_tokens(),
            self._status if is_first else 0,
            self._content_type if is_first else "",
        )
        if finish is None:
            self._spend(len(data))
            self._tell(Heard(passage=passage))
            return
        self._tell(
            Heard(
                finish=finish,
                passage=passage,
                prompt_tokens=reader.prompt_tokens,
                cached_tokens=reader.cached_tokens,
                is_engine_fault=self._is_broken(reader),
            )
        )

    def _spend(self, n_bytes: int) -> None:
        """Of what may be heard."""
        self._allowance -= n_bytes
        if self._allowance <= 0 and self._source is not None:
            self._source.pause()

    def _is_broken(self, reader: PassageReader) -> bool:
        """A 200 may still carry an error, and the engine's own one."""
        return self._status == 200 and reader.failed

    def _refuse(self) -> None:
        """503 is its queue, or its end: whoever asks looks whether it lives. The key is ours."""
        match self._status:
            case 503 | 429:
                self._finish(FinishReason.FULL, _FULL, is_engine_fault=True)
            case 401 | 403:
                self._finish(FinishReason.ERROR, _KEY_REFUSED, is_engine_fault=True)
            case _:
                self._finish(FinishReason.ERROR, _FAILED, is_engine_fault=True)

    def _finish(self, finish: FinishReason, error: str, *, is_engine_fault: bool) -> None:
        if self._has_begun:
            self._pass()  # what came before it stopped is its client's
        status = 0 if self._status == 200 else self._status
        self._tell(
            Heard(finish=finish, error=error, is_engine_fault=is_engine_fault, status=status)
        )

    def _tell(self, heard: Heard) -> None:
        if not self._is_over:
            self._is_over = heard.finish is not None
            self._hear(heard)


def _is_elsewhere(status: int) -> bool:
    """Whether another engine may do better: what else is wrong is the request's own fault."""
    return status >= 500 or status in (401, 403, 429)
