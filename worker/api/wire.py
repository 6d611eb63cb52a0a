"""Wire: what the engine put out, as the messages that a caller gets. Pure."""

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.wire import (
    finish_to_proto,
    logprobs_to_proto,
    pack_tokens,
    passage_to_proto,
)
from radixroute.worker.api.streams import Piece
from radixroute.worker.engine.engine import PromptReport, TokenOutput


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
