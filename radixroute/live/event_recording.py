"""Loop of one recording on behalf of `events record`: from an opened file to a finished one.

Owns the loop and when it is over: a signal, or a time.
"""

from collections.abc import Callable
from typing import BinaryIO

from radixroute import __version__
from radixroute.events.recording.capture import Capture
from radixroute.live.event_sources import Found, Lookout, SourceFinder
from radixroute.live.stop_flag import stop_flag

# A stream whose beginning is not there after this long will not come: its worker is dead.
BASE_TIMEOUT_NS = 10_000_000_000


def record_into(
    file: BinaryIO,
    finder: SourceFinder,
    found: Found,
    *,
    seconds: float | None,
    on_turn: Callable[[Capture], None],
) -> Capture:
    """Returns the finished capture. The `seconds` begin when every stream's beginning is there."""
    lookout = Lookout(finder)
    by, keys = f"radixroute {__version__}", finder.event_keys
    with (
        Capture(file, found.sources, by=by, scope=found.scope, keys=keys) as capture,
        stop_flag() as is_stopped,
    ):
        lookout.start()
        try:
            ends_ns: int | None = None
            while not is_stopped() and (ends_ns is None or capture.elapsed_ns < ends_ns):
                capture.turn()
                latest = lookout.take()
                if latest is not None:
                    capture.listen_to(latest.sources)
                if seconds is not None and ends_ns is None and _has_begun(capture):
                    ends_ns = capture.elapsed_ns + int(seconds * 1e9)
                on_turn(capture)
        finally:
            lookout.stop()
        capture.finish()
    return capture


def _has_begun(capture: Capture) -> bool:
    return capture.is_based or capture.elapsed_ns > BASE_TIMEOUT_NS
