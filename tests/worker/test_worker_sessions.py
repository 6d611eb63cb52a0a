"""Worker sessions without a server: what a session that is over does with a late request."""

from dataclasses import replace

import pytest

from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import PATHS, STREAM, Passage, Verbatim
from radixroute.worker.api.answers.wire import MORE_BYTES
from radixroute.worker.api.intake import Submission
from radixroute.worker.api.worker_sessions import WorkerSessions
from radixroute.worker.engine.engine import (
    EngineStep,
    MoreOutput,
    PromptReport,
    TokenOutput,
    WorkerSessionProgress,
)
from tests.worker.fakes import make_tokenizer, request


class Engine:
    """What reached the engine, in order."""

    def __init__(self):
        self.heard = []
        self.taken = []  # requests

    def submit(self, sent):
        self.heard.append(("submit", sent.session_id))
        self.taken.append(sent)

    def abort(self, request_id, attempt):
        self.heard.append(("abort", request_id))

    def allow(self, request_id, attempt, n_bytes):
        self.heard.append(("allow", request_id, n_bytes))

    def render(self, session_id, request_id, asked, lora):
        self.heard.append(("render", session_id, request_id))

    def inquire(self, session_id, request_id, attempt):
        self.heard.append(("inquire", session_id, request_id, attempt))

    def end_session(self, session_id):
        self.heard.append(("end", session_id))


def submission():
    sent = request("a", [1, 2])
    return Submission("a", 1, 1, sent.prompt, sent.sampling, sent.emitted, 0, sent.scope)


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


def test_what_its_client_says_of_its_session_reaches_the_engine_and_is_counted():
    engine = Engine()
    sessions = WorkerSessions(make_tokenizer(), engine)
    session = sessions.open("router")
    session.submit(replace(submission(), last_of_session=3))
    session.submit(replace(submission(), request_id="b"))
    session.submit(replace(submission(), last_of_session=3))  # it runs already
    assert [one.last_of_session for one in engine.taken] == [3, None]
    assert sessions.told_over == 1


def attempt(number):
    return replace(submission(), attempt=number)


def deltas(session):
    return [
        (d.request_id, d.attempt, d.finish_reason) for out in session._outbox for d in out.deltas
    ]


def test_a_later_attempt_in_another_session_ends_the_earlier_one_before_it_starts():
    """A client that lost its router resumes at another one, and the first still lives."""
    engine = Engine()
    sessions = WorkerSessions(make_tokenizer(), engine)
    old, new = sessions.open("router-1"), sessions.open("router-2")
    old.submit(attempt(1))
    new.submit(attempt(65537))
    assert engine.heard == [("submit", "s1"), ("abort", "s1.1"), ("submit", "s2")]
    # Not ABORT: its router would try it elsewhere.
    assert deltas(old) == [("a", 1, pb.FINISH_REASON_INVALID)]
    assert (old.in_flight, new.in_flight) == (0, 1)
    # What that router sends late is behind.
    old.submit(attempt(2))
    assert deltas(old)[1:] == [("a", 2, pb.FINISH_REASON_INVALID)]
    assert len(engine.heard) == 3


def test_an_attempt_that_is_over_fences_nothing():
    engine = Engine()
    sessions = WorkerSessions(make_tokenizer(), engine)
    old, new = sessions.open("router-1"), sessions.open("router-2")
    new.submit(attempt(5))
    new.close()
    old.submit(attempt(1))
    assert engine.heard[-1] == ("submit", "s1")
    assert not deltas(old)
    old.close()
    assert len(sessions.fences) == 0


def test_a_direct_client_ends_nobodys_attempt():
    """Its ids are its own word."""
    engine = Engine()
    sessions = WorkerSessions(make_tokenizer(), engine)
    routers, direct = sessions.open("router-1"), sessions.open_direct("a")
    routers.submit(attempt(1))
    direct.submit(attempt(9))
    routers.submit(replace(attempt(2), request_id="b"))
    assert [heard for heard in engine.heard if heard[0] == "abort"] == []
    assert not deltas(routers)
    direct.close()
    routers.close()
    assert len(sessions.fences) == 0


def test_who_is_asked_for_and_not_here_ends_once_more_and_the_engine_is_asked_for_the_rest():
    engine = Engine()
    session = WorkerSessions(make_tokenizer(), engine).open("router-1")
    session.submit(attempt(3))
    session.inquire([("a", 3), ("a", 2), ("never", 1)])
    assert engine.heard[1:] == [("inquire", "s1", "s1.1", 3)]
    end = pb.FINISH_REASON_ABORT
    assert deltas(session) == [("a", 2, end), ("never", 1, end)]
    assert session.in_flight == 1


def test_what_the_engine_has_lost_ends_at_its_word_and_only_once():
    engine = Engine()
    sessions = WorkerSessions(make_tokenizer(), engine)
    session = sessions.open("router-1")
    session.submit(attempt(3))
    lost = TokenOutput("s1.1", 3, "s1", 0, (), FinishReason.ABORT)
    progress = WorkerSessionProgress("s1", 1, 0, 0, 0)
    for number in (1, 2):
        sessions.deliver(EngineStep(number, (lost,), (), 1.0, 0, 0, 0, (progress,)))
    assert deltas(session) == [("a", 3, pb.FINISH_REASON_ABORT)]
    assert (session.in_flight, len(sessions.fences)) == (0, 0)


def told(position: int, prompt: PromptReport | None = None, finish=None) -> TokenOutput:
    return TokenOutput("s1.1", 3, "s1", position, (5,), finish, prompt=prompt)


def test_columns_are_for_tokens_with_nothing_else_to_say_and_keep_their_order():
    """They are read before deltas: what follows a delta of the same message is one, too."""
    sessions = WorkerSessions(make_tokenizer(), Engine())
    session = sessions.open("router-1", takes_columns=True)
    session.submit(replace(attempt(3), dispatch_seq=9))
    report = PromptReport(4, 0, 0, 0.0, 0.0, None, 0)
    steps = [
        (told(0, report), told(1)),
        (told(2),),
        (told(3), told(4)),
        (told(5, finish=FinishReason.LENGTH),),
    ]
    for number, outputs in enumerate(steps):
        progress = WorkerSessionProgress("s1", 1, 0, 0, 0)
        sessions.deliver(EngineStep(number, outputs, (), 1.0, 0, 0, 0, (progress,)))
    found = [
        (
            list(out.columns.dispatch_seqs),
            list(out.columns.positions),
            [d.position for d in out.deltas],
        )
        for out in session.take_outputs()
    ]
    assert found == [([], [], [0, 1]), ([9], [2], []), ([9], [3], [4]), ([], [], [5])]


def test_more_of_verbatim_answers_goes_to_its_session_in_messages_of_a_size():
    sessions = WorkerSessions(make_tokenizer(), Engine())
    session, other = sessions.open("router-1"), sessions.open("router-2")
    verbatim = Verbatim(PATHS[0], b"{}", 5)
    for name in ("a", "b", "c"):
        session.submit(replace(submission(), request_id=name, verbatim=verbatim))
    other.submit(replace(submission(), request_id="d", verbatim=verbatim))
    big = b"x" * (MORE_BYTES + 1)
    said = [("s1.1", "s1", big), ("s1.2", "s1", big), ("s2.1", "s2", b"y"), ("s1.3", "s1", b"z")]
    more = (*(MoreOutput(name, 1, whose, data, 2) for name, whose, data in said),)
    ended = TokenOutput("s1.2", 1, "s1", 0, (), FinishReason.ABORT)
    begun = TokenOutput("s1.1", 1, "s1", 0, (), passage=Passage(b"", 0, 200, STREAM))
    progress = tuple(WorkerSessionProgress(whose, 1, 1, 0, 0) for whose in ("s1", "s2"))
    step = EngineStep(1, (begun, ended), (), 1.0, 0, 3, 0, progress, more=more)
    sessions.deliver(step)
    first, second = session.take_outputs()
    assert [one.request_id for one in first.deltas] == ["a", "b"]
    assert (list(first.more.request_ids), list(first.more.data)) == (["a"], [big])
    assert (list(first.more.attempts), list(first.more.n_tokens)) == ([1], [2])
    assert (list(second.more.request_ids), list(second.more.data)) == (["c"], [b"z"])
    assert not second.deltas
    assert (first.decode_tokens, second.decode_tokens) == (3, 0)
    (theirs,) = other.take_outputs()
    assert (list(theirs.more.request_ids), list(theirs.more.data)) == (["d"], [b"y"])
