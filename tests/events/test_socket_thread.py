"""The life of a thread that polls sockets: one start, no wake lost, an end for its sockets."""

import threading

import pytest
import zmq

from radixroute.events.errors import LocalEventError
from radixroute.events.net.socket_thread import SocketThread

PATIENCE_S = 30.0


@pytest.fixture
def thread():
    thread = SocketThread("tested")
    yield thread
    thread.stop()


def test_it_is_started_once_and_ends_its_context(thread):
    context, has_begun = zmq.Context(), threading.Event()

    def run():
        has_begun.set()
        while not thread.is_stopping:
            thread.wait()

    thread.stop()  # of what never began: nothing
    assert not thread.is_alive
    thread.start(context, run)
    with pytest.raises(LocalEventError, match="the tested was started before"):
        thread.start(context, run)
    assert has_begun.wait(PATIENCE_S)
    assert thread.is_alive
    thread.stop()
    thread.stop()
    assert (thread.is_alive, context.closed) == (False, True)
    thread.wake()  # nobody listens any more, and no file is written to


def test_a_wake_before_the_wait_ends_it_and_a_message_names_its_socket(thread):
    with zmq.Context() as context:
        ours, theirs = context.socket(zmq.PAIR), context.socket(zmq.PAIR)
        ours.bind("inproc://a")
        theirs.connect("inproc://a")
        thread.watch(ours)
        thread.wake()
        assert thread.wait(int(PATIENCE_S * 1000)) == []
        theirs.send(b"x")
        assert thread.wait(int(PATIENCE_S * 1000)) == [ours]
        thread.leave(ours)
        assert thread.wait(0) == []
        for socket in (ours, theirs):
            socket.close(linger=0)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_one_that_fails_is_not_alive_and_closes_its_sockets(thread):
    context = zmq.Context()

    def run():
        raise ZeroDivisionError

    thread.start(context, run)
    thread._thread.join(PATIENCE_S)
    assert (thread.is_alive, context.closed) == (False, True)
    thread.stop()
