"""Inbox: what the messages of a worker session do, however they came."""

from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import Verbatim
from radixroute.worker.api.intake import Intake
from radixroute.worker.api.worker_session import WorkerSession
from radixroute.worker.engine.engine import refused_as
from radixroute.worker.errors import EngineDead

ENGINE_GONE = "the engine has ended; send the request to another worker"


def why_not_opened(message: pb.EngineRequest) -> str:
    """Empty: it opens a worker session."""
    if message.WhichOneof("kind") != "open":
        return "the first message of a session must be `open`"
    version = message.open.api_version
    if version != API_VERSION:
        return f"this worker speaks api version {API_VERSION}, not {version}"
    return ""


def take(session: WorkerSession, intake: Intake, message: pb.EngineRequest) -> None:
    """One message of a worker session. A bad request ends itself, never the session."""
    match message.WhichOneof("kind"):
        case "submit" | "chunk":
            _take_part(session, intake, message)
        case "abort":
            if not intake.forget(message.abort.request_id, message.abort.attempt):
                session.abort(message.abort.request_id, message.abort.attempt)
        case "allow":
            allow = message.allow
            session.allow(allow.request_id, allow.attempt, allow.n_bytes)
        case "render":
            asked = message.render
            verbatim = Verbatim(asked.path, asked.body, 0)
            session.render(asked.request_id, verbatim, asked.lora)
        case "inquire":
            names = [(one.request_id, one.attempt) for one in message.inquire.attempts]
            session.inquire([name for name in names if not intake.has(*name)])
        case _:
            pass  # a message of a newer v1: additions must not end old sessions


def _take_part(session: WorkerSession, intake: Intake, message: pb.EngineRequest) -> None:
    """Of a request; the last one begins it."""
    is_first = message.WhichOneof("kind") == "submit"
    part = message.submit if is_first else message.chunk
    request_id, attempt = part.request_id, part.attempt
    try:
        submission = intake.submit(message.submit) if is_first else intake.chunk(message.chunk)
        if submission is not None:
            session.submit(submission)
    except InvalidRequest as error:
        session.refuse(request_id, attempt, refused_as(error), str(error))
    except EngineDead:
        session.refuse(request_id, attempt, FinishReason.ERROR, ENGINE_GONE)
