"""Dynamo's log, as `bench.compat` reads it: every line that it should not have written. Pure."""

import json
from collections import Counter

# What Dynamo says of a worker that joins, and of a stream that did not begin with its first batch.
_EXPECTED_LINES = ("Adding worker", "Gap detected: expected seq 0,")


def log_lines(text: str) -> Counter[str]:
    """Warnings and errors of its log by message; the expected ones left out."""
    found = Counter[str]()
    for line in text.splitlines():
        try:
            entry = json.loads(line)
        except ValueError:
            found[line[:100]] += bool(line.strip())  # a panic is no JSON
            continue
        message = str(entry.get("message"))
        if entry.get("level") in ("WARN", "ERROR") and not message.startswith(_EXPECTED_LINES):
            found[message[:100]] += 1
    return +found
