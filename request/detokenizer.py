"""Token ids to text while they arrive: whole characters only, each exactly once.

Owns the half-finished character at the end of one answer. Works on bytes, so a token costs the same
wherever it stands: nothing is decoded twice. The worker holds one for each running request.
"""

import codecs
from collections.abc import Iterable

from radixroute.request.tokenizer import Tokenizer


class IncrementalDetokenizer:
    """One answer's text. The pushes and the flush together are the decoded answer.

    `prompt_tail`: the last ids of the prompt, for tokenizers whose first space is an artefact: with
    something before it, the answer's first space is real.
    """

    def __init__(self, tokenizer: Tokenizer, prompt_tail: Iterable[int] = ()) -> None:
        self._bytes = tokenizer.token_bytes
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._at_start = self._bytes.strips_first_space
        self.push(prompt_tail)

    @property
    def is_between_characters(self) -> bool:
        """Whole characters that come next are text as they are."""
        return not self._at_start and not self._decoder.getstate()[0]

    def push(self, token_ids: Iterable[int]) -> str:
        """The text these ids complete; a character still missing bytes waits for them."""
        data = b"".join([self._bytes[int(token_id)] for token_id in token_ids])
        if self._at_start and data:
            self._at_start = False
            data = data.removeprefix(b" ")
        return self._decoder.decode(data)

    def prime(self, emitted_ids: Iterable[int]) -> str:
        """Takes over an answer begun elsewhere; returns the text its ids made so far.

        Push that text through the stop strings too and skip what the client already has: a held
        tail was never sent.
        """
        return self.push(emitted_ids)

    def flush(self) -> str:
        """The end: an unfinished character becomes U+FFFD, as a decoder of the whole would."""
        text = self._decoder.decode(b"", final=True)
        self._decoder.reset()
        return text
