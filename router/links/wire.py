"""Wire: between the core's records and the messages of the worker's `Session` stream.

Pure. Token ids stay packed on the way through.
"""

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from google.protobuf.message import DecodeError

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import WINDOW_BYTES, More, Verbatim
from radixroute.request.wire import (
    finish_from_proto,
    logprobs_from_proto,
    pack_tokens,
    passage_from_proto,
    sampling_to_proto,
    scope_to_proto,
)
from radixroute.router.messages.actions import Abort, Allow, Dispatch, Inquire, Render, ToWorker
from radixroute.router.messages.inputs import (
    TOKEN_BYTES,
    Delta,
    PackedTokens,
    PromptFacts,
    Rendered,
    StepReport,
    packed_len,
)

# A day: no step takes that long, and the core reckons with integers.
_LONGEST_STEP_MS = 24 * 3600 * 1000.0
# Requests whose outputs are handed on before the loop goes on with something else; some 3 ms.
DELTAS_A_TURN = 256
# Characters of what a worker says of a request that it refuses.
_MAX_ERROR = 300


def messages_of(action: ToWorker, chunk_tokens: int) -> Iterator[pb.EngineRequest]:
    """What a session says for it, in order."""
    match action:
        case Dispatch():
            yield from _dispatch_messages(action, chunk_tokens)
        case Abort():
            abort = pb.AbortRequest(request_id=action.request_id, attempt=action.attempt)
            yield pb.EngineRequest(abort=abort)
        case Inquire():
            names = [pb.AttemptName(request_id=r, attempt=n) for r, n in action.attempts]
            yield pb.EngineRequest(inquire=pb.InquireRequest(attempts=names))
        case Render():
            render = pb.RenderRequest(
                request_id=action.request_id,
                path=action.verbatim.path,
                body=action.verbatim.body,
                lora=action.lora,
            )
            yield pb.EngineRequest(render=render)
        case Allow():
            allow = pb.AllowRequest(
                request_id=action.request_id, attempt=action.attempt, n_bytes=action.n_bytes
            )
            yield pb.EngineRequest(allow=allow)


def _dispatch_messages(dispatch: Dispatch, chunk_tokens: int) -> Iterator[pb.EngineRequest]:
    """A submit, and the rest of a long prompt in chunks behind it."""
    spec = dispatch.spec
    if spec.verbatim is not None:
        yield from _verbatim_messages(dispatch, spec.verbatim, chunk_tokens * TOKEN_BYTES)
        return
    packed = pack_tokens(spec.prompt)
    step = chunk_tokens * TOKEN_BYTES
    submit = pb.SubmitRequest(
        request_id=spec.request_id,
        attempt=dispatch.attempt,
        dispatch_seq=dispatch.dispatch_seq,
        prompt_token_ids=packed[:step],
        more_chunks=len(packed) > step,
        sampling=sampling_to_proto(spec.sampling),
        scope=scope_to_proto(spec.scope),
        traceparent=spec.traceparent,
        last_of_session=spec.last_of_session or 0,
    )
    if dispatch.attempt > 1:
        submit.resume.emitted_token_ids = dispatch.emitted
        submit.resume.emitted_text_len = dispatch.emitted_text_len
    yield pb.EngineRequest(submit=submit)
    for start in range(step, len(packed), step):
        yield pb.EngineRequest(
            chunk=pb.PromptChunk(
                request_id=spec.request_id,
                attempt=dispatch.attempt,
                prompt_token_ids=packed[start : start + step],
                more_chunks=start + step < len(packed),
            )
        )


def _verbatim_messages(
    dispatch: Dispatch, verbatim: Verbatim, step: int
) -> Iterator[pb.EngineRequest]:
    """The same, of a body as it came. Its engine has no use for the last of a session."""
    spec, body = dispatch.spec, verbatim.body
    request = pb.VerbatimRequest(
        path=verbatim.path,
        body=body[:step],
        prompt_tokens=verbatim.n_tokens,
        allowance=WINDOW_BYTES,
    )
    submit = pb.SubmitRequest(
        request_id=spec.request_id,
        attempt=dispatch.attempt,
        dispatch_seq=dispatch.dispatch_seq,
        more_chunks=len(body) > step,
        scope=scope_to_proto(spec.scope),
        traceparent=spec.traceparent,
        verbatim=request,
    )
    yield pb.EngineRequest(submit=submit)
    for start in range(step, len(body), step):
        chunk = pb.PromptChunk(
            request_id=spec.request_id,
            attempt=dispatch.attempt,
            verbatim_body=body[start : start + step],
            more_chunks=start + step < len(body),
        )
        yield pb.EngineRequest(chunk=chunk)


def step_reports(output: pb.StepOutput, rows: Iterable[Delta] = ()) -> Iterator[StepReport]:
    """One for each engine step, not for each token; the outputs of very many requests in parts.

    `rows`: those of its columns, which go before its deltas. What was measured of the step comes
    with the first part alone. Raises `DecodeError`.
    """
    deltas = chain(rows, map(_delta, output.deltas))
    more = _more(output.more) if output.HasField("more") else ()
    part = tuple(islice(deltas, DELTAS_A_TURN))
    n_free = DELTAS_A_TURN - len(part)
    yield StepReport(
        step_ms=_time_ms(output.step_ms),
        prefill_tokens=output.prefill_tokens,
        decode_tokens=output.decode_tokens,
        deltas=part,
        rendered=tuple(
            Rendered(one.request_id, PackedTokens(one.token_ids)) for one in output.rendered
        ),
        more=more[:n_free],
    )
    more = more[n_free:]
    while (part := tuple(islice(deltas, DELTAS_A_TURN))) or more:
        n_free = DELTAS_A_TURN - len(part)
        yield StepReport(0.0, 0, 0, part, more=more[:n_free])
        more = more[n_free:]


def _more(told: pb.More) -> tuple[More, ...]:
    n = len(told.data)
    if not len(told.request_ids) == len(told.attempts) == len(told.n_tokens) == n:
        raise DecodeError("lists of `more` have different lengths")
    return tuple(map(More, told.request_ids, told.attempts, told.data, told.n_tokens))


def _time_ms(told: float) -> float:
    """A time that a worker told; 0, which is not known, for what can be no step's time."""
    return told if 0.0 <= told <= _LONGEST_STEP_MS else 0.0


def _delta(delta: pb.TokenDelta) -> Delta:
    report = None
    if delta.HasField("prompt"):
        report = PromptFacts(
            prompt_tokens=delta.prompt.prompt_tokens,
            cached_tokens=min(delta.prompt.cached_tokens, delta.prompt.prompt_tokens),
            recomputed_tokens=delta.prompt.recomputed_tokens,
            event_seq=delta.prompt.event_seq if delta.prompt.HasField("event_seq") else None,
            events_before=delta.prompt.events_before,
            rank=delta.prompt.rank if delta.prompt.HasField("rank") else None,
        )
    logprobs = None
    if delta.HasField("logprobs"):
        logprobs = logprobs_from_proto(delta.logprobs, packed_len(delta.token_ids))
    finish = finish_from_proto(delta.finish_reason)
    return Delta(
        request_id=delta.request_id,
        attempt=delta.attempt,
        position=delta.position,
        token_ids=PackedTokens(delta.token_ids),
        text=delta.text,
        finish=finish,
        prompt=report,
        logprobs=logprobs,
        passage=passage_from_proto(delta.passage) if delta.HasField("passage") else None,
        error=delta.error[:_MAX_ERROR] if finish is FinishReason.INVALID else "",
    )
