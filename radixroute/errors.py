"""The front door's errors, cut by what whoever sees them can do.

FrontDoorError           failed: exit code 1
 +- RouterUnreachable    start it, or give another address
 +- RequestFailed        the router tried and could not, or is too busy: try again
 +- NotRecorded          streams cannot be listened to, or a file cannot be written
 +- DamagedRecording     use what comes before the damage, or record again
 +- UserError            change what was typed: exit code 2
     +- BadConfig        a setting in the file, the environment or a flag
     +- BadInput         an argument, or a file that was named
     +- RequestRefused   the router refuses the request as it stands

Messages are one line and say what to do.
"""


class FrontDoorError(Exception):
    """Anything the command line or a client reports to a person."""

    exit_code = 1


class RouterUnreachable(FrontDoorError):
    """Nothing answers at the address."""


class RequestFailed(FrontDoorError):
    """The request was sound and has no complete answer."""


class NotRecorded(FrontDoorError):
    """A recording could not be begun, or not be gone on with."""


class DamagedRecording(FrontDoorError):
    """A recording whose bytes changed after they were written."""


class UserError(FrontDoorError):
    """Whoever typed it must change it."""

    exit_code = 2


class BadConfig(UserError):
    """A setting that is unknown, of another type, or can never work."""


class BadInput(UserError):
    """An argument or a named file that cannot be used."""


class RequestRefused(UserError):
    """The router says what is wrong with the request."""
