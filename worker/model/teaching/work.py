"""Work: how many multiplications and bytes a call took, counted where they happen.

Owns the counter and nothing else. Counts are exact and the same on every machine; how long they
take is what an experiment measures. One multiplication with its addition is 2 FLOPs.
"""

from dataclasses import dataclass


@dataclass(slots=True)
class Work:
    """Counts so far. Bytes: those that must be moved where no cache of the CPU helps."""

    flops: int = 0
    weight_bytes: int = 0  # read once a call, however many tokens share the call
    kv_read: int = 0  # bytes of context that attention reads
    kv_written: int = 0  # bytes that new tokens put into the cache
    copied: int = 0  # bytes moved only to bring a context into one piece

    @property
    def bytes_moved(self) -> int:
        return self.weight_bytes + self.kv_read + self.kv_written + 2 * self.copied

    @property
    def intensity(self) -> float:
        """FLOPs for each byte: where it stands on a roofline."""
        return self.flops / max(1, self.bytes_moved)

    def matrix(self, rows: int, weight_elements: int, itemsize: int) -> None:
        """`rows` tokens through one weight matrix."""
        self.flops += 2 * rows * weight_elements
        self.weight_bytes += weight_elements * itemsize

    def attention(self, pairs: int, score_width: int, value_width: int) -> None:
        """`pairs` of (query head, context token): a dot product, and a share of a value."""
        self.flops += 2 * pairs * (score_width + value_width)

    def clear(self) -> None:
        self.flops = self.weight_bytes = self.kv_read = self.kv_written = self.copied = 0
