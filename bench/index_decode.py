"""Raw event payloads, decoded and applied to an index: our own form, and vLLM's with token ids."""

from collections.abc import Iterator

from bench.index_rows import Row


def rows(rounds: int) -> Iterator[Row]:
    """Blocks a second on one core, events of 32 blocks."""
    yield from ()
