"""Event gate: event sockets for whoever was let in, encrypted, by ZeroMQ's CURVE.

Owns the keys of one publisher and the public keys that may come to it: those that routers told over
gRPC, where they had proved themselves by certificate. `admit` from any thread; all else belongs to
the thread that has the sockets. Without a gate sockets are in the clear and for everybody.
"""

from collections import OrderedDict

import zmq

from radixroute.events.net.frames import send_frames, take_frames
from radixroute.events.net.socket_thread import Socket
from radixroute.trust.event_keys import EventKeys, raw_key

# Where libzmq asks about each connection, by its own specification (ZAP, RFC 27).
_ASKED_AT = "inproc://zeromq.zap.01"
_VERSION, _CURVE = b"1.0", b"CURVE"
_DOMAIN = b"radixroute"
# A router has one key for each of its lives; the ones that came last are kept.
MAX_ADMITTED = 1024


class EventGate:
    """Of one publisher."""

    def __init__(self, keys: EventKeys) -> None:
        self._keys = keys
        self._admitted: OrderedDict[bytes, None] = OrderedDict()
        self.refused = 0  # connections

    @property
    def key(self) -> bytes:
        """What subscribers must know of it."""
        return self._keys.public

    def admit(self, key: bytes) -> bool:
        """Whoever has the other half of this key may come. False: it is no key."""
        raw = raw_key(key)
        if raw is None:
            return False
        self._admitted[raw] = None
        self._admitted.move_to_end(raw)
        while len(self._admitted) > MAX_ADMITTED:
            self._admitted.popitem(last=False)
        return True

    def guard(self, *sockets: Socket) -> None:
        """Before they are bound."""
        for socket in sockets:
            socket.setsockopt(zmq.CURVE_SECRETKEY, self._keys.secret)
            socket.setsockopt(zmq.CURVE_SERVER, 1)
            socket.setsockopt(zmq.ZAP_DOMAIN, _DOMAIN)

    def open(self, context: zmq.Context[Socket]) -> Socket:
        """The socket that `answer` is for; nobody comes in before it is open."""
        asked = context.socket(zmq.REP)
        asked.setsockopt(zmq.LINGER, 0)
        asked.bind(_ASKED_AT)
        return asked

    def answer(self, asked: Socket) -> None:
        """Whoever waits at the door."""
        while True:
            try:
                frames = take_frames(asked)
            except zmq.Again:
                return
            # version, request, domain, address, identity, mechanism, then its public key
            may_come = frames[5:6] == [_CURVE] and frames[6] in self._admitted
            self.refused += not may_come
            status = (b"200", b"OK") if may_come else (b"400", b"not let in")
            send_frames(asked, [_VERSION, frames[1], *status, b"", b""])


def prove(socket: Socket, keys: EventKeys, server_key: bytes) -> None:
    """The other side, before it connects: who comes, and to whom alone."""
    socket.setsockopt(zmq.CURVE_SERVERKEY, server_key)
    socket.setsockopt(zmq.CURVE_PUBLICKEY, keys.public)
    socket.setsockopt(zmq.CURVE_SECRETKEY, keys.secret)
