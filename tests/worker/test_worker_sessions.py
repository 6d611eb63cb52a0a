"""Worker sessions without a server: what a session that is over does with a late request."""

import pytest

from radixroute.request.errors import InvalidRequest
from radixroute.worker.api.intake import Submission
from radixroute.worker.api.worker_sessions import WorkerSessions
from tests.worker.fakes import make_tokenizer, request


class Engine:
    """What reached the engine, in order."""

    def __init__(self):
        self.heard = []

    def submit(self, sent):
        self.heard.append(("submit", sent.session_id))

    def abort(self, request_id, attempt):
        self.heard.append(("abort", request_id))

    def end_session(self, session_id):
        self.heard.append(("end", session_id))


def submission():
    sent = request("a", [1, 2])
    return Submission("a", 1, 1, sent.prompt, sent.sampling, sent.emitted, 0)


def test_a_request_after_the_end_of_its_session_is_refused_and_never_reaches_the_engine():
    """It would run with nobody to read it, in a session that nobody ends a second time."""
    engine = Engine()
    sessions = WorkerSessions(make_tokenizer(), engine)
    session = sessions.open("router")
    session.submit(submission())
    session.close()
    with pytest.raises(InvalidRequest, match="open another"):
        session.submit(submission())
    assert engine.heard == [("submit", "s1"), ("end", "s1")]
