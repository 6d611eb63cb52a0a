"""Listening: one answer of an engine, from its HTTP head to its end, read by a dialect.

Whatever happens, exactly one thing with a finish is heard, and nothing after it. On the event loop.
"""

from collections.abc import Callable, Sequence
from typing import Final

import msgspec

from radixroute.request.sampling import FinishReason
from radixroute.worker.companions.dialects.dialect import AnswerReader, Heard
from radixroute.worker.companions.texts import Texts
from radixroute.worker.errors import MalformedMessage

_MAX_REFUSAL_BYTES: Final = 64 * 1024
_STREAM: Final = "text/event-stream"
UNREACHED: Final = "the engine takes no connection; try another worker"
CUT: Final = "the engine closed the connection"
NO_STREAM: Final = "the engine answered with no stream"
NO_TOKENS: Final = "the engine told a text that the model's tokenizer cannot say"


class Listening:
    """Implements `radixroute.worker.companions.http.client.AnswerSink`."""

    def __init__(
        self,
        reader: AnswerReader,
        refusal: Callable[[int, bytes], Heard],
        hear: Callable[[Heard], None],
        texts: Texts | None = None,
    ) -> None:
        """`refusal`: what an answer that is no stream means. `texts`: makes tokens of texts; None:
        they are heard as they are."""
        self._fresh = reader
        self._refuse = refusal
        self._hear = hear
        self._texts = texts
        self._reader: AnswerReader | None = None  # from a good head on
        self._status = 0
        self._refusal = b""
        self._is_over = False

    def head(self, status: int, content_type: str) -> None:
        self._status = status
        if status == 200 and content_type.startswith(_STREAM):
            self._reader = self._fresh

    def body(self, data: bytes) -> None:
        if self._reader is not None:
            for one in self._reader.feed(data):
                if one.text or one.finish is not None or self._is_over:
                    self._tell((one,))
                else:
                    self._hear(one)  # one a token: the short way
        elif len(self._refusal) < _MAX_REFUSAL_BYTES:
            self._refusal += data

    def ended(self) -> None:
        if self._reader is not None:
            self._tell(self._reader.end())
        elif self._status == 200:
            self._tell([Heard(finish=FinishReason.ABORT, error=NO_STREAM, is_engine_fault=True)])
        else:
            self._tell([self._refuse(self._status, self._refusal)])

    def failed(self, *, was_sent: bool) -> None:
        """What was sent may be what ended the engine: that counts as a death of its own."""
        if self._reader is not None:
            self._tell(self._reader.end())
        elif was_sent:
            self._tell([Heard(finish=FinishReason.ABORT, error=CUT, is_engine_fault=True)])
        else:
            self._tell([Heard(finish=FinishReason.FULL, error=UNREACHED, is_engine_fault=True)])

    def _tell(self, heard: Sequence[Heard]) -> None:
        for one in heard:
            if not self._is_over:
                told = self._in_tokens(one) if one.text else one
                self._is_over = told.finish is not None
                self._hear(told)

    def _in_tokens(self, one: Heard) -> Heard:
        if self._texts is None:
            return one
        try:
            return msgspec.structs.replace(one, token_ids=self._texts.ids(one.text), text="")
        except MalformedMessage:
            return Heard(finish=FinishReason.ERROR, error=NO_TOKENS)
