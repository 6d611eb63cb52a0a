"""Wire: what the engine put out, as the messages that a caller gets."""

from collections.abc import Iterable, Sequence
from typing import Final

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import (
    finish_to_proto,
    logprobs_to_proto,
    pack_tokens,
    passage_to_proto,
)
from radixroute.worker.api.answers.streams import Piece
from radixroute.worker.engine.engine import MoreOutput, PromptReport, TokenOutput

# Of verbatim answers in one message, and what one piece brings on top: routers read no giant one.
MORE_BYTES: Final = 1 << 20


def token_delta(request_id: str, output: TokenOutput, piece: Piece) -> pb.TokenDelta:
    return pb.TokenDelta(
        request_id=request_id,
        attempt=output.attempt,
        position=output.position,
        token_ids=pack_tokens(piece.token_ids),
        text=piece.text,
        finish_reason=finish_to_proto(piece.finish),
        error=output.error,
        prompt=None if output.prompt is None else _prompt_report(output.prompt),
        logprobs=None if piece.logprobs is None else logprobs_to_proto(piece.logprobs),
        passage=None if output.passage is None else passage_to_proto(output.passage),
    )


def is_row(output: TokenOutput, piece: Piece) -> bool:
    """Whether there is nothing to say but tokens."""
    return bool(piece.token_ids) and piece.finish is None and output.is_plain


class Columns:
    """Rows of one message's `TokenColumns`, each of another attempt."""

    def __init__(self) -> None:
        self._numbers: list[int] = []
        self._positions: list[int] = []
        self._counts: list[int] = []
        self._token_ids: list[int] = []
        self._texts: list[str] = []

    def add(self, dispatch_seq: int, position: int, token_ids: Sequence[int], text: str) -> None:
        self._numbers.append(dispatch_seq)
        self._positions.append(position)
        self._counts.append(len(token_ids))
        self._token_ids += token_ids
        self._texts.append(text)

    def message(self) -> pb.TokenColumns | None:
        """None: there are none."""
        if not self._numbers:
            return None
        is_one_each = len(self._token_ids) == len(self._numbers)
        return pb.TokenColumns(
            dispatch_seqs=self._numbers,
            positions=self._positions,
            counts=() if is_one_each else self._counts,
            token_ids=pack_tokens(self._token_ids),
            texts=self._texts,
        )


def more_messages(outputs: Iterable[tuple[str, MoreOutput]]) -> list[pb.More]:
    """Each with its caller's id, in messages of a size; at least one."""
    parts, n_bytes = [pb.More()], 0
    for request_id, output in outputs:
        if n_bytes > MORE_BYTES:
            parts.append(pb.More())
            n_bytes = 0
        part = parts[-1]
        part.request_ids.append(request_id)
        part.attempts.append(output.attempt)
        part.data.append(output.data)
        part.n_tokens.append(output.n_tokens)
        n_bytes += len(output.data)
    return parts


def _prompt_report(report: PromptReport) -> pb.PromptReport:
    return pb.PromptReport(
        prompt_tokens=report.prompt_tokens,
        cached_tokens=report.cached_tokens,
        recomputed_tokens=report.recomputed_tokens,
        queue_ms=report.queue_ms,
        prefill_ms=report.prefill_ms,
        event_seq=report.event_seq,
        events_before=None if report.event_seq is None else report.events_before,
        rank=report.rank,
    )
