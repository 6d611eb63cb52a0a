"""Wires. A session keeps order until it breaks; an event link loses, repeats, delays, mangles."""

import random
from collections.abc import Callable

import msgpack

from radixroute.events.wire.native import TOPIC_BATCH
from tests.simulation.agenda import MS, Agenda, Args, Process
from tests.simulation.deeds import Weather

_SESSION_NS = MS // 2
CALM = Weather(0, "", 0)


class Session:
    """One stream between the router and one life of a worker."""

    def __init__(self, agenda: Agenda, router: Process, worker: Process) -> None:
        self._agenda = agenda
        self._router = router
        self._worker = worker
        self.is_open = True
        self.dispatch_seq = 0  # of the last dispatch over it

    def to_worker(self, call: Callable[..., None], *args) -> None:
        self._send(self._worker, call, args)

    def to_router(self, call: Callable[..., None], *args) -> None:
        self._send(self._router, call, args)

    def close(self) -> None:
        """What is on its way is lost."""
        self.is_open = False

    def _send(self, to: Process, call: Callable[..., None], args: Args) -> None:
        self._agenda.put(self._agenda.now_ns + _SESSION_NS, to, self._arrive, call, args)

    def _arrive(self, call: Callable[..., None], args: Args) -> None:
        if self.is_open:
            call(*args)


class EventWire:
    """From one address to its subscriber, or back; messages are frames."""

    def __init__(self, agenda: Agenda, rng: random.Random) -> None:
        self._agenda = agenda
        self._rng = rng
        self._weather = CALM
        self._calm_ns = 0
        self.cut_until_ns = 0
        self.connected_ns: int | None = 0  # what was sent before is lost; None: nobody listens

    def blow(self, weather: Weather, until_ns: int) -> None:
        self._weather, self._calm_ns = weather, until_ns

    @property
    def weather(self) -> Weather:
        return self._weather if self._agenda.now_ns < self._calm_ns else CALM

    def happens(self, percent: int) -> bool:
        return percent > 0 and self._rng.randrange(100) < percent

    def send(self, frames, to: Process, call: Callable[..., None], *args) -> None:
        """`call` gets whether the message was mangled, the frames, and `args`."""
        weather, now_ns = self.weather, self._agenda.now_ns
        if self.connected_ns is None or now_ns < max(self.connected_ns, self.cut_until_ns):
            return
        if self.happens(weather.lose):
            return
        is_mangled = frames[0] == TOPIC_BATCH and self.happens(weather.mangle)
        if is_mangled:
            frames = _mangled(frames, self._rng)
        if self.happens(weather.garbage):
            frames = [*frames[:-1], self._rng.randbytes(self._rng.randint(0, 20))]
        for _ in range(2 if self.happens(weather.repeat) else 1):
            ns = self._rng.randint(1, 300) * MS if self.happens(weather.delay) else MS // 2
            self._agenda.put(now_ns + ns, to, call, is_mangled, frames, *args)


def _mangled(frames, rng: random.Random):
    """Well formed bytes that say something else: an event is missing."""
    payload = msgpack.unpackb(frames[-1])
    if payload[1]:
        payload[1].pop(rng.randrange(len(payload[1])))
    return [*frames[:-1], msgpack.packb(payload)]
