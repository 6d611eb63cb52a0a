"""Answer stream: one request's answer as text, cut at stop strings, continued after a resume.

Owns the detokenizer, the stop strings and the count of output tokens of one request, and turns the
engine's ids into what the client may see. Never talks to the engine: the caller aborts a request
whose answer ended early. Called by `WorkerSession` for each output; pure but for its own state.
"""

import msgspec

from radixroute.request.detokenizer import IncrementalDetokenizer
from radixroute.request.logprobs import Logprobs
from radixroute.request.sampling import FinishReason
from radixroute.request.stopping import StopStrings
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.engine.engine import EngineRequest, TokenOutput


class Piece(msgspec.Struct, frozen=True):
    """What one engine output adds to an answer. A struct, as the output."""

    token_ids: tuple[int, ...]
    text: str
    finish: FinishReason | None
    cut: bool  # a stop string ended the answer: the engine does not know yet
    logprobs: Logprobs | None = None  # of `token_ids`


class AnswerStream:
    """The visible side of one request."""

    def __init__(
        self, tokenizer: Tokenizer, request: EngineRequest, emitted_text_len: int = 0
    ) -> None:
        self._min_tokens = request.sampling.min_tokens
        self._detokenizer = IncrementalDetokenizer(tokenizer, request.prompt[-4:].tolist())
        self._stops = StopStrings(request.sampling.stop)
        self._n_output = 0
        self._is_over = False
        # The client has the first `emitted_text_len` characters of what the emitted ids make; what
        # was held back when the other worker died goes out with the first piece.
        self._to_skip = emitted_text_len
        self._unsent = ""
        for token_id in request.emitted.tolist():
            self._unsent += self._read(token_id)
        self.is_plain = self._find_plain()

    def take(self, output: TokenOutput) -> Piece:
        """The next output of the engine, in order. After a cut nothing more may come.

        While the answer `is_plain`, outputs of whole characters and nothing else need not come
        here: they are their own text, and leave it as it is.
        """
        piece = self._take(output)
        self.is_plain = self._find_plain()
        return piece

    def _find_plain(self) -> bool:
        """Nothing waits, is to be skipped or looked for."""
        is_open = not (self._unsent or self._to_skip or self._stops.looks_for_any)
        return is_open and self._detokenizer.is_between_characters

    def _take(self, output: TokenOutput) -> Piece:
        n_read = 0
        text, self._unsent = self._unsent, ""
        for token_id in output.token_ids:
            if self._is_over:
                break
            n_read += 1
            is_end_token = output.finish is FinishReason.STOP and n_read == len(output.token_ids)
            # A token that ends the answer is reported, but it is not text.
            text += self._count() if is_end_token else self._read(token_id)
        told = output.logprobs
        if self._is_over:
            read = output.token_ids[:n_read]
            told = told and told.first(n_read)
            return Piece(read, self._visible(text), FinishReason.STOP, True, told)
        finish = output.finish
        if finish in (FinishReason.STOP, FinishReason.LENGTH):
            text += self._flush()
            finish = FinishReason.STOP if self._is_over else finish
        return Piece(output.token_ids, self._visible(text), finish, False, told)

    def _count(self) -> str:
        self._n_output += 1
        return ""

    def _read(self, token_id: int) -> str:
        """One more output token; the text that may be shown now."""
        self._n_output += 1
        text = self._detokenizer.push((token_id,))
        if self._n_output < self._min_tokens:
            return text
        scan = self._stops.push(text)
        self._is_over = scan.matched is not None
        return scan.text

    def _flush(self) -> str:
        scan = self._stops.push(self._detokenizer.flush())
        self._is_over = scan.matched is not None
        return scan.text + self._stops.flush()

    def _visible(self, text: str) -> str:
        skipped = min(self._to_skip, len(text))
        self._to_skip -= skipped
        return text[skipped:]
