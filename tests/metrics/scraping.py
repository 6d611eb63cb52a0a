"""A client of the metrics page: raw HTTP over loopback, and the page by name and labels."""

import asyncio

from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as open_metrics_families,
)
from prometheus_client.parser import text_string_to_metric_families as plain_families

Values = dict[tuple[str, frozenset[tuple[str, str]]], float]
GET = b"GET /metrics HTTP/1.1\r\nHost: here\r\n\r\n"
OPEN_METRICS_GET = b"GET /metrics HTTP/1.1\r\nAccept: application/openmetrics-text\r\n\r\n"


async def ask(port: int, data: bytes, host: str = "127.0.0.1") -> tuple[int, dict[str, str], str]:
    """Status, headers and body of the one answer to these bytes."""
    reader, writer = await asyncio.open_connection(host, port)
    try:
        writer.write(data)
        async with asyncio.timeout(30):
            answer = await reader.read()
    finally:
        writer.close()
    head, _, body = answer.partition(b"\r\n\r\n")
    status, *lines = head.decode("latin-1").split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    return int(status.split(" ")[1]), headers, body.decode()


async def scrape(port: int) -> Values:
    """Every value of the page; it reads the same in both formats, and nothing is there twice."""
    status, headers, plain = await ask(port, GET)
    assert (status, headers["content-type"].split(";")[0]) == (200, "text/plain")
    status, headers, strict = await ask(port, OPEN_METRICS_GET)
    assert (status, headers["content-type"].split(";")[0]) == (200, "application/openmetrics-text")
    values = _values(plain_families(plain))
    assert _values(open_metrics_families(strict)).keys() == values.keys()
    return values


def labels(**given: str) -> frozenset[tuple[str, str]]:
    return frozenset(given.items())


def _values(families) -> Values:
    samples = [sample for family in families for sample in family.samples]
    values: Values = {(s.name, frozenset(s.labels.items())): s.value for s in samples}
    assert len(values) == len(samples), "a series is there twice"
    return values
