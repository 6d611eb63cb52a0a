"""What can go wrong with an event stream, cut by whose fault it is.

EventError
  LocalEventError    we misused this room or misconfigured it: fix the caller
  RemoteEventError   a peer sent bytes that are not of the protocol: count, resync that peer, go on
  RecordingError     a file is no recording, or is damaged: use what comes before, or record again
  BadPoint           a place in a recording that is none: write it otherwise
  PointBeyondEnd     a place that the recording does not reach: give an earlier one

A decoder raises `RemoteEventError` for any bytes it cannot accept, and nothing else.
"""


class EventError(Exception):
    """Base of this room's errors."""


class LocalEventError(EventError):
    """Our own misuse: an impossible record, an endpoint that cannot be bound."""


class RemoteEventError(EventError):
    """A peer's bytes. The message names the shape that was wrong, never the content."""


class RecordingError(EventError):
    """A file's bytes. The message says where, when there is a place to name."""


class BadPoint(EventError):
    """What was written names no place in a recording."""


class PointBeyondEnd(EventError):
    """The recording ends before it."""
