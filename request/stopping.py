"""Stop strings in a stream of text: the answer ends before the first one found.

Owns the few characters that may yet become a stop string; everything else passes at once. What is
found does not depend on how the text was cut into pieces. The worker holds one for each running
request; before `min_tokens` it passes text by without asking.
"""

from typing import NamedTuple


class StopScan(NamedTuple):
    """What one piece of text led to."""

    text: str  # safe to send
    matched: str | None  # the stop string found; the answer is over


class StopStrings:
    """Watches one answer. The match that is complete first wins; of several, the longest."""

    def __init__(self, stop: tuple[str, ...]) -> None:
        self._stop = stop
        self._longest = max((len(text) for text in stop), default=0)
        self._held = ""
        self._ended = False

    @property
    def looks_for_any(self) -> bool:
        return bool(self._stop)

    @property
    def held_len(self) -> int:
        """Characters that wait for what follows."""
        return len(self._held)

    def push(self, text: str) -> StopScan:
        """What may be sent now. After a match nothing comes out any more."""
        if self._ended:
            return StopScan("", None)
        if not self._stop:
            return StopScan(text, None)
        buffer = self._held + text
        found = self._first_match(buffer)
        if found is not None:
            start, matched = found
            self._held, self._ended = "", True
            return StopScan(buffer[:start], matched)
        keep = self._possible_start(buffer)
        self._held = buffer[len(buffer) - keep :]
        return StopScan(buffer[: len(buffer) - keep], None)

    def flush(self) -> str:
        """The answer ended otherwise: what was held is text after all."""
        held, self._held = self._held, ""
        return held

    def _first_match(self, buffer: str) -> tuple[int, str] | None:
        """Start and text of the match that ends first, the earliest start among equals."""
        found = [(start + len(s), start, s) for s in self._stop if (start := buffer.find(s)) >= 0]
        if not found:
            return None
        _, start, matched = min(found)
        return start, matched

    def _possible_start(self, buffer: str) -> int:
        """Length of the longest end of the buffer that begins a stop string."""
        for length in range(min(self._longest - 1, len(buffer)), 0, -1):
            tail = buffer[-length:]
            if any(text.startswith(tail) for text in self._stop):
                return length
        return 0
