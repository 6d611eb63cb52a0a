"""Passages: what an answer in OpenAI's form says of itself while it goes by. Pure.

Reads copies; nothing of what goes by is changed. Of a stream each line is looked at once, and only
those that tell of usage or of an error are parsed; of a whole answer, unless it is very large, all.
"""

from typing import Final

import msgspec

# Of a line, or of a whole answer: what is longer is not looked at.
MOST_READ_BYTES: Final = 512 * 1024
_DATA: Final = b"data:"
_LATER_DATA: Final = b"\n" + _DATA  # in text its line end would be escaped
_DONE: Final = b"[DONE]"
_USAGE: Final = b'"prompt_tokens"'  # in text its quotes would be escaped
_ERROR: Final = b'{"error"'


class _Details(msgspec.Struct):
    cached_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None


class _Error(msgspec.Struct):
    code: int | str | None = None


class _Told(msgspec.Struct):
    usage: _Usage | None = None
    error: _Error | None = None


_decode = msgspec.json.Decoder(_Told).decode


class OpenAIPassages:
    """Implements `radixroute.worker.companions.dialects.dialect.PassageReader`."""

    def __init__(self, *, is_stream: bool) -> None:
        self._is_stream = is_stream
        self._rest: list[bytes] = []  # of a line, or of the answer
        self._n_rest = 0
        self._n_events = 0
        self._n_taken = 0
        self._output_tokens: int | None = None
        self.prompt_tokens: int | None = None
        self.cached_tokens: int | None = None
        self.has_event = self.failed = False

    def feed(self, data: bytes) -> None:
        if not self._is_stream:
            self._keep(data)
            return
        if not self._n_rest and _says_nothing(data):
            self._n_events += data.count(_LATER_DATA) + data.startswith(_DATA)
            self.has_event = self.has_event or self._n_events > 0
            return
        lines = data.split(b"\n")
        for line in lines[:-1]:
            self._keep(line)
            self._line(b"".join(self._rest))
            self._rest, self._n_rest = [], 0
        self._keep(lines[-1])

    def end(self) -> None:
        if not self._is_stream and self._n_rest <= MOST_READ_BYTES:
            self._read(b"".join(self._rest))
        self._rest, self._n_rest = [], 0

    def take_tokens(self) -> int:
        """Of a stream each event counts as one, until its end says how many there were."""
        n_tokens = self._n_events if self._output_tokens is None else self._output_tokens
        taken, self._n_taken = max(0, n_tokens - self._n_taken), max(n_tokens, self._n_taken)
        return taken

    def _keep(self, data: bytes) -> None:
        self._n_rest += len(data)
        if self._n_rest <= MOST_READ_BYTES:
            self._rest.append(data)
        else:
            self._rest.clear()

    def _line(self, line: bytes) -> None:
        if not line.startswith(_DATA):
            return
        said = line[len(_DATA) :].strip()
        if said == _DONE:
            return
        self.has_event = True
        if said.startswith(_ERROR) or _USAGE in said:
            self._read(said)
        else:
            self._n_events += 1

    def _read(self, said: bytes) -> None:
        try:
            told = _decode(said)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return
        if told.error is not None:
            code = told.error.code
            self.failed = self.failed or not (isinstance(code, int) and 400 <= code < 500)
        usage = told.usage
        if usage is None:
            return
        self.prompt_tokens, self._output_tokens = usage.prompt_tokens, usage.completion_tokens
        if usage.prompt_tokens_details is not None:
            self.cached_tokens = usage.prompt_tokens_details.cached_tokens


def _says_nothing(data: bytes) -> bool:
    """Whole lines, none of which tells more than that it is there: nearly all that goes by."""
    return not (_USAGE in data or _ERROR in data or _DONE in data or not data.endswith(b"\n"))
