"""Log probabilities of a run of tokens, packed as the wire has them.

Engines pack them, whoever shows them to a client unpacks them, and nobody between looks inside:
`fits` is all that has to be asked of what came from elsewhere. Pure.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from radixroute.request.limits import MOST_LOGPROBS

NUMBER_BYTES = 4  # of an id, and of a log probability: float32


class TokenLogprob(NamedTuple):
    """Of one token of an answer."""

    logprob: float
    top: tuple[tuple[int, float], ...] = ()  # ids that were most likely there, best first


@dataclass(frozen=True, slots=True)
class Logprobs:
    """Of some tokens in a row; see `TokenLogprobs` in the wire contract."""

    chosen: bytes
    n_top: int = 0
    top_ids: bytes = b""
    top: bytes = b""

    def fits(self, n_tokens: int) -> bool:
        """Whether it tells of so many tokens, no more and no less."""
        n_bytes = n_tokens * NUMBER_BYTES
        top_bytes = n_bytes * self.n_top
        return (
            len(self.chosen) == n_bytes
            and len(self.top_ids) == len(self.top) == top_bytes
            and self.n_top <= MOST_LOGPROBS
        )

    def first(self, n_tokens: int) -> "Logprobs":
        """Of the first tokens alone."""
        n_bytes = n_tokens * NUMBER_BYTES
        top_bytes = n_bytes * self.n_top
        return Logprobs(
            self.chosen[:n_bytes], self.n_top, self.top_ids[:top_bytes], self.top[:top_bytes]
        )

    def unpacked(self) -> list[TokenLogprob]:
        """Of each token. Only of what fits."""
        chosen = np.frombuffer(self.chosen, "<f4").tolist()
        shape = (len(chosen), self.n_top)
        ids = np.frombuffer(self.top_ids, "<u4").reshape(shape).tolist()
        top = np.frombuffer(self.top, "<f4").reshape(shape).tolist()
        return [
            TokenLogprob(logprob, tuple(zip(best, beside, strict=True)))
            for logprob, best, beside in zip(chosen, ids, top, strict=True)
        ]


def pack_logprobs(tokens: Sequence[TokenLogprob]) -> Logprobs:
    """Of each token, all with as many others beside them."""
    pairs = [pair for token in tokens for pair in token.top]
    return Logprobs(
        chosen=np.array([token.logprob for token in tokens], "<f4").tobytes(),
        n_top=len(tokens[0].top) if tokens else 0,
        top_ids=np.array([token_id for token_id, _ in pairs], "<u4").tobytes(),
        top=np.array([logprob for _, logprob in pairs], "<f4").tobytes(),
    )


def join_logprobs(parts: Iterable[Logprobs]) -> Logprobs:
    """Of tokens in a row that were told in parts."""
    parts = tuple(parts)
    return Logprobs(
        chosen=b"".join(part.chosen for part in parts),
        n_top=max((part.n_top for part in parts), default=0),
        top_ids=b"".join(part.top_ids for part in parts),
        top=b"".join(part.top for part in parts),
    )
