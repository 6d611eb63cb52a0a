"""Server-sent events: the bytes of a stream cut into what its data lines say. Sans I/O."""

from radixroute.worker.errors import MalformedMessage

# A first chunk may repeat its whole prompt: a million tokens are some seven bytes each.
MAX_LINE_BYTES = 64 * 1024 * 1024
_DATA = b"data:"


class SseLines:
    """`feed` bytes as they come, in any pieces; get what each whole `data:` line holds."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[bytes]:
        """Raises `MalformedMessage` for a line without an end."""
        *lines, self._rest = (self._rest + data if self._rest else data).split(b"\n")
        if len(self._rest) > MAX_LINE_BYTES:
            raise MalformedMessage(f"a line of an answer has more than {MAX_LINE_BYTES} bytes")
        return [line[len(_DATA) :].strip() for line in lines if line.startswith(_DATA)]
