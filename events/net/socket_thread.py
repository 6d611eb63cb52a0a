"""A thread that polls sockets: started once, woken by anybody, stopped and waited for.

Publishers and subscriber run theirs in one of these. Owns the thread, its poller and its wake
signal. The ZeroMQ context is handed over at the start: the thread destroys it, however it ends.
"""

import threading
from collections.abc import Callable

import zmq

from radixroute.events.errors import LocalEventError
from radixroute.events.net.wake import WakeSignal

_STOP_TIMEOUT_S = 5.0

Socket = zmq.Socket[bytes]


class SocketThread:
    """`start`, any number of `wake`, `stop`. `watch`, `leave` and `wait` are the thread's own."""

    def __init__(self, name: str, linger_ms: int = 0) -> None:
        self._name = name
        self._linger_ms = linger_ms  # how long what was sent last may still leave
        self._poller = zmq.Poller()
        self._wake = WakeSignal()
        self._poller.register(self._wake.fileno(), zmq.POLLIN)
        self._stopping = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def is_alive(self) -> bool:
        """False before the start, after the stop, and when `run` has failed."""
        return self._thread is not None and self._thread.is_alive()

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()

    def require_new(self) -> None:
        """Raises if it was started: whoever binds sockets for it asks before."""
        if self._thread is not None:
            raise LocalEventError(f"the {self._name} was started before")

    def start(self, context: zmq.Context[Socket], run: Callable[[], None]) -> None:
        """`run` returns soon after `is_stopping`; it may fail, which ends the thread."""
        self.require_new()
        self._thread = threading.Thread(
            target=self._run, args=(context, run), name=self._name, daemon=True
        )
        self._thread.start()

    def wake(self) -> None:
        """Ends a `wait`, or the next one. From any thread, at any time."""
        self._wake.set()

    def stop(self) -> None:
        """Waits until `run` has returned. Idempotent; nothing before the start."""
        if self._thread is None or self._stopping.is_set():
            return
        self._stopping.set()
        self._wake.set()
        self._thread.join(_STOP_TIMEOUT_S)
        if self._thread.is_alive():
            raise LocalEventError(f"the {self._name}'s thread did not stop")
        self._wake.close()

    def watch(self, socket: Socket) -> None:
        """A message on it ends a `wait` from here on."""
        self._poller.register(socket, zmq.POLLIN)

    def leave(self, socket: Socket) -> None:
        """It is not waited for any more."""
        self._poller.unregister(socket)

    def wait(self, timeout_ms: int | None = None) -> list[Socket]:
        """The sockets with messages; none: it was woken, or the time is over.

        What was made ready before a `wake` is there to be seen when this returns.
        """
        ready = [one for one, _ in self._poller.poll(timeout_ms)]
        if self._wake.fileno() in ready:
            ready.remove(self._wake.fileno())
            self._wake.clear()
        return ready

    def ready(self) -> list[Socket]:
        """The sockets with messages now; a wake stands. Another thread may ask, too, while this one
        does nothing with its sockets."""
        wake = self._wake.fileno()
        return [one for one, _ in self._poller.poll(0) if one != wake]

    def _run(self, context: zmq.Context[Socket], run: Callable[[], None]) -> None:
        try:
            run()
        finally:
            context.destroy(linger=self._linger_ms)
