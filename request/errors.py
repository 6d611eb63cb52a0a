"""The room's errors, cut by what the caller can do.

RequestError
 +- InvalidRequest   change the request: `field` names the offending part, `message` says how
     +- NoRoom       nothing is wrong with it: whoever was asked has no room for it now
 +- TokenizerError   fix the tokenizer's files: missing, torn, or of a kind we do not know

Messages never contain prompt text or token ids of a prompt: they travel to clients and to logs.
"""


class RequestError(Exception):
    """Anything this room refuses."""


class InvalidRequest(RequestError):
    """The caller must change the request; retrying it unchanged fails everywhere."""

    def __init__(self, field: str, message: str) -> None:
        super().__init__(f"{field}: {message}")
        self.field = field
        self.message = message

    def __reduce__(self) -> tuple[type["InvalidRequest"], tuple[str, str]]:
        # Crosses the pipe between engine process and edge: the default would pass one argument.
        return type(self), (self.field, self.message)


class NoRoom(InvalidRequest):
    """Nothing is wrong with the request: another worker, or this one later, may take it."""


class TokenizerError(RequestError):
    """The tokenizer cannot be built from its files."""
