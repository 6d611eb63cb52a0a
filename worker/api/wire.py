"""Wire: what the engine put out, as the messages that a caller gets. Pure.

A message of a worker session is kept as its bytes, which is what most sessions send. Nearly all
deltas are a token and its text: those are written by hand, as protobuf would write them.
"""

from collections.abc import Iterable
from typing import Final

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.tokenizer import Tokenizer
from radixroute.request.wire import (
    finish_to_proto,
    logprobs_to_proto,
    pack_tokens,
    passage_to_proto,
)
from radixroute.worker.api.streams import Piece
from radixroute.worker.engine.engine import PromptReport, TokenOutput

# Field numbers and wire types of `StepOutput.deltas` and of `TokenDelta`.
_DELTAS: Final = b"\x12"
_POSITION: Final = b"\x18"
_TOKEN_IDS: Final = b"\x22"
_TEXT: Final = b"\x2a"
MAX_PLAIN: Final = 16_384  # outputs whose bytes are kept


def _varint(n: int) -> bytes:
    data = bytearray()
    while n > 0x7F:
        data.append(n & 0x7F | 0x80)
        n >>= 7
    data.append(n)
    return bytes(data)


_VARINTS: Final = tuple(map(_varint, range(4096)))


def varint(n: int) -> bytes:
    """As protobuf writes an unsigned integer."""
    return _VARINTS[n] if n < len(_VARINTS) else _varint(n)


def step_output(deltas: Iterable[bytes], rest: pb.StepOutput) -> bytes:
    """A whole message: fields may come in any order."""
    return b"".join((*deltas, rest.SerializeToString()))


def delta_field(delta: pb.TokenDelta) -> bytes:
    """A delta as `step_output` takes it."""
    data = delta.SerializeToString()
    return _DELTAS + varint(len(data)) + data


class PlainFields:
    """What outputs say that are tokens with their text and nothing else, as bytes of a delta.

    Only tokens that make whole characters together: these are the same text wherever they stand.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._pieces = tokenizer.token_bytes
        self._fields: dict[tuple[int, ...], bytes] = {}  # empty: there is no such text

    def __len__(self) -> int:
        return len(self._fields)

    def of(self, token_ids: tuple[int, ...]) -> bytes:
        """Empty: the text depends on what stands around."""
        return self._fields.get(token_ids) or self._add(token_ids)

    def _add(self, token_ids: tuple[int, ...]) -> bytes:
        if len(self._fields) >= MAX_PLAIN:
            self._fields.clear()
        fields = self._fields[token_ids] = self._written(token_ids)
        return fields

    def _written(self, token_ids: tuple[int, ...]) -> bytes:
        text = b"".join([self._pieces[token_id] for token_id in token_ids])
        packed = pack_tokens(token_ids)
        try:
            text.decode()
        except UnicodeDecodeError:
            return b""
        told = _TEXT + varint(len(text)) + text if text else b""
        return _TOKEN_IDS + varint(len(packed)) + packed + told


class PlainDeltas:
    """Deltas of one attempt that are such fields and their position."""

    def __init__(self, request_id: str, attempt: int) -> None:
        self._head = pb.TokenDelta(request_id=request_id, attempt=attempt).SerializeToString()

    def delta(self, position: int, fields: bytes) -> bytes:
        """As `step_output` takes it."""
        head = self._head
        at = varint(position) if position else b""
        n_bytes = len(head) + len(at) + len(fields)
        if not at:
            return b"".join((_DELTAS, varint(n_bytes), head, fields))
        return b"".join((_DELTAS, varint(n_bytes + 1), head, _POSITION, at, fields))


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
