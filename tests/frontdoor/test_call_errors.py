"""What gRPC says when a call fails, told anew: none of its own words reach a person."""

from dataclasses import dataclass

import grpc
import pytest

from radixroute.call_errors import translated
from radixroute.errors import RequestFailed, RequestRefused, RouterUnreachable

AT = "127.0.0.1:50051"


@dataclass
class Failed:
    """A call's end, as both of gRPC's clients show it."""

    status: str
    words: str | None

    def code(self):
        return grpc.StatusCode[self.status]

    def details(self):
        return self.words


# Seen from grpcio 1.7x, or read in its core.
RAW = [
    ("UNAVAILABLE", "failed to connect to all addresses; last error: UNKNOWN: ipv4:127.0.0.1:1: "
     "Failed to connect to remote host: connect: Connection refused (111)", RouterUnreachable),
    ("UNAVAILABLE", "DNS resolution failed for nowhere:1: C-ares status is not ARES_SUCCESS",
     RouterUnreachable),
    ("UNAVAILABLE", "FD Shutdown", RequestFailed),
    ("UNAVAILABLE", "Socket closed", RequestFailed),
    ("UNAVAILABLE", "recvmsg:Connection reset by peer", RequestFailed),
    ("UNAVAILABLE", "keepalive watchdog timeout", RequestFailed),
    ("UNAVAILABLE", "Received http2 header with status: 502", RequestFailed),
    ("UNAVAILABLE", "GOAWAY received; Error code: 2; Debug Text: too_many_pings", RequestFailed),
    ("CANCELLED", "Received RST_STREAM with error code 8", RequestFailed),
    ("CANCELLED", "Locally cancelled by application!", RequestFailed),
    ("INTERNAL", "Exception deserializing response!", RequestFailed),
    ("INTERNAL", "Received RST_STREAM with error code 2", RequestFailed),
    ("UNKNOWN", "Exception iterating responses: 'x'", RequestFailed),
    ("UNKNOWN", "Stream removed", RequestFailed),
    ("DEADLINE_EXCEEDED", "Deadline Exceeded", RequestFailed),
    ("RESOURCE_EXHAUSTED", "CLIENT: Sent message larger than max (20000005 vs. 16777216)",
     RequestRefused),
    ("RESOURCE_EXHAUSTED", "SERVER: Received message larger than max (9 vs. 7)", RequestRefused),
    ("RESOURCE_EXHAUSTED", "CLIENT: Received message larger than max (9 vs. 7)", RequestFailed),
    ("RESOURCE_EXHAUSTED", "SERVER: Sent message larger than max (9 vs. 7)", RequestFailed),
    ("RESOURCE_EXHAUSTED", "Decompressed message larger than max", RequestRefused),
    ("RESOURCE_EXHAUSTED", "Concurrent RPC limit exceeded!", RequestFailed),
    ("UNIMPLEMENTED", "Method not found!", RouterUnreachable),
    ("INTERNAL", None, RequestFailed),
]  # fmt: skip


@pytest.mark.parametrize(("status", "words", "kind"), RAW)
def test_no_word_of_grpc_is_passed_on(status, words, kind):
    told = translated(Failed(status, words), AT, 5.0)
    assert type(told) is kind
    assert words is None or words not in str(told)
    for jargon in ("RST_STREAM", "last error", "larger than max", "CLIENT", "SERVER", "RPC"):
        assert jargon not in str(told)


def test_sizes_are_told_with_the_limit():
    told = translated(Failed(*RAW[15][:2]), AT, 5.0)
    assert "20,000,005" in str(told)
    assert "16,777,216" in str(told)


@pytest.mark.parametrize("status", ["UNAVAILABLE", "INTERNAL", "RESOURCE_EXHAUSTED"])
def test_what_a_router_says_is_passed_on(status):
    words = "the router has all the requests it takes: try again later (request 00ff)"
    assert words in str(translated(Failed(status, words), AT, 5.0))
