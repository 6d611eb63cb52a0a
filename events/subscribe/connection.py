"""The sockets that listen to one source: SUB for its batches, DEALER for what is asked of it.

Makes, connects and closes them, for the subscriber and for whoever records; the counterpart of
`listening`. Knows when the source hung up, if that is to be noticed. Decodes nothing.
"""

import zmq
from zmq.utils.monitor import recv_monitor_message

from radixroute.events.errors import LocalEventError
from radixroute.events.net.frames import offer_frames
from radixroute.events.net.gate import prove
from radixroute.events.net.socket_thread import Socket
from radixroute.events.settings import SubscriberSettings
from radixroute.events.wire.control import Endpoints

_RECONNECT_MS = 100
_RECONNECT_MAX_MS = 1000


def listening_context(settings: SubscriberSettings) -> zmq.Context[Socket]:
    """For any number of connections."""
    context: zmq.Context[Socket] = zmq.Context(io_threads=1)
    context.set(zmq.MAX_SOCKETS, settings.max_sockets)
    return context


class Connection:
    """One source's sockets, connected. Raises `LocalEventError` for what is no address.

    `control` is None where there is no address for it; `monitor` unless `notices_ends`.
    """

    def __init__(
        self,
        context: zmq.Context[Socket],
        endpoints: Endpoints,
        settings: SubscriberSettings,
        *,
        topic: bytes,
        max_bytes: int,
        notices_ends: bool = False,
    ) -> None:
        self._context = context
        self._endpoints = endpoints
        self._settings = settings
        self._max_bytes = max_bytes
        self._is_up = False
        self.events = self._socket(zmq.SUB)
        self.control: Socket | None = None
        self.monitor: Socket | None = None
        try:
            if notices_ends:
                watched = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED
                self.monitor = self.events.get_monitor_socket(watched)
            self.events.setsockopt(zmq.SUBSCRIBE, topic)
            _connect(self.events, endpoints.events)
            if endpoints.control:
                self.control = self._control()
        except BaseException:
            self.close()
            raise

    @property
    def sockets(self) -> list[Socket]:
        """Those with messages to wait for."""
        return [one for one in (self.events, self.control, self.monitor) if one is not None]

    @property
    def is_up(self) -> bool:
        """Connected, by what `has_ended` saw last; never, unless ends are noticed."""
        return self._is_up

    def send(self, frames: list[bytes]) -> bool:
        """Asks; False: it takes nothing now, or there is nobody to ask."""
        if self.control is None:
            return False
        try:
            offer_frames(self.control, frames)
        except zmq.Again:
            return False
        return True

    def renew_control(self) -> None:
        """Another socket for what is asked from here on: answers to what was asked end."""
        if self.control is not None:
            self.control.close(linger=0)
            self.control = self._control()

    def has_ended(self) -> bool:
        """Whether it was connected and is no more: a process that went, or a link. Says so once."""
        has_ended = False
        while self.monitor is not None and self.monitor.poll(0):
            was_up = self._is_up
            event = recv_monitor_message(self.monitor)["event"]
            self._is_up = event == zmq.EVENT_HANDSHAKE_SUCCEEDED
            has_ended = has_ended or (was_up and not self._is_up)
        return has_ended

    def close(self) -> None:
        if self.monitor is not None:
            self.events.disable_monitor()
            self.monitor.close(linger=0)
        self.events.close(linger=0)
        if self.control is not None:
            self.control.close(linger=0)

    def _control(self) -> Socket:
        control = self._socket(zmq.DEALER)
        try:
            _connect(control, self._endpoints.control)
        except BaseException:
            control.close(linger=0)
            raise
        return control

    def _socket(self, kind: int) -> Socket:
        socket = self._context.socket(kind)
        for option, value in (
            (zmq.LINGER, 0),
            (zmq.IPV6, 1),
            (zmq.RCVHWM, self._settings.receive_high_water_mark),
            (zmq.MAXMSGSIZE, self._max_bytes),
            (zmq.HANDSHAKE_IVL, 5000),
            (zmq.RECONNECT_IVL, _RECONNECT_MS),
            (zmq.RECONNECT_IVL_MAX, _RECONNECT_MAX_MS),
        ):
            socket.setsockopt(option, value)
        if self._settings.keys is not None and self._endpoints.key:
            prove(socket, self._settings.keys, self._endpoints.key)
        return socket


def _connect(socket: Socket, endpoint: str) -> None:
    try:
        socket.connect(endpoint)
    except zmq.ZMQError as error:
        raise LocalEventError(
            f"cannot connect to {endpoint!r}: {error.strerror}; an address is tcp://HOST:PORT"
        ) from error
