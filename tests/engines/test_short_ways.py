"""Ways that spare work a token: each hears exactly what the long way hears, however bytes come."""

import asyncio
import json
from itertools import pairwise
from typing import Any

import httptools
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.worker.companions.dialects.common.completions import CompletionReader
from radixroute.worker.companions.dialects.common.known_events import (
    MAX_BYTES,
    MAX_KNOWN,
    KnownEvents,
)
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.dialects.vllm import VllmDialect
from radixroute.worker.companions.http.connection import Connection, Exchange

HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"


def cut(data, ends):
    """Pieces of it that end there; none is empty."""
    places = sorted({0, len(data), *(end for end in ends if end <= len(data))})
    return [data[i:j] for i, j in pairwise(places)]


class Transport(asyncio.Transport):
    def __init__(self):
        super().__init__()
        self.is_aborted = False

    def write(self, data): ...

    def abort(self):
        self.is_aborted = True

    def is_closing(self):
        return self.is_aborted

    def is_reading(self):
        return True


class Owner:
    def released(self, connection, *, is_open): ...

    def lost(self, connection): ...

    def repeat(self, exchange): ...


class Sink:
    """What of an answer was heard; bytes of its body joined."""

    def __init__(self):
        self.parts, self.end = [], ""

    def head(self, status, content_type):
        self.parts.append(b"")

    def body(self, data):
        self.parts.append(data)

    def ended(self):
        self.end += "ended"

    def failed(self, *, was_sent):
        self.end += "failed"


class Parsed(Sink):
    """The same, by the parser alone."""

    def __init__(self):
        super().__init__()
        self._parser = httptools.HttpResponseParser(self)

    def on_body(self, data):
        self.body(data)

    def on_message_complete(self):
        self.ended()

    def feed(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.end = "failed"


def answered(pieces):
    sink, connection = Sink(), Connection(Owner())
    connection.connection_made(Transport())
    connection.carry(Exchange(b"asked", sink))
    for piece in pieces:
        if not sink.end:
            connection.data_received(piece)
    return b"".join(sink.parts), sink.end


def parsed(pieces):
    sink = Parsed()
    for piece in pieces:
        if not sink.end:
            sink.feed(piece)
    return b"".join(sink.parts), sink.end


WRITTEN = st.sampled_from([b"%x", b"%x", b"%x", b"%X", b"0%x", b"%x;a=b", b"+%x", b"0x%x", b"%x "])
PAYLOADS = st.binary(min_size=1, max_size=40) | st.sampled_from([b"a" * 300, b"0\r\n\r\n", b"\r\n"])
CHUNKS = st.tuples(WRITTEN, PAYLOADS, st.sampled_from([b"\r\n", b"\r\n", b"\r\n", b"\n", b"xy"]))


FIVE = b"5\r\nhello\r\n"  # a chunk, or the end of a longer one's size and what it begins with


@pytest.mark.parametrize(
    "pieces",
    [
        [HEAD + FIVE + b"1", FIVE + b"a" * 14 + b"\r\n", FIVE + b"0\r\n\r\n"],
        [HEAD + FIVE + b"1f\r\n" + b"a" * 22 + b"\r\n", FIVE[:7] + b"\r\n", FIVE],
        [HEAD + FIVE, FIVE + b"+" + FIVE, FIVE],
        [HEAD + FIVE, FIVE + b"0x" + FIVE, FIVE],
        [HEAD + FIVE, FIVE + b"5_0\r\n" + b"a" * 80 + b"\r\n" + FIVE],
        [HEAD + FIVE, FIVE + FIVE + FIVE[:6], FIVE[6:] + b"0\r\n\r\n"],
        [HEAD, FIVE, FIVE[:-1] + b"x", FIVE],
        [HEAD, FIVE, b"", FIVE + b"0\r\n\r\n"],
        [HEAD + FIVE, b"0\r\n\r\n" + FIVE],
        [HEAD.replace(b"chunked", b"identity"), FIVE, FIVE],
    ],
)
def test_what_looks_like_a_chunk_may_be_none(pieces):
    assert answered(pieces) == parsed(pieces)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    chunks=st.lists(CHUNKS, max_size=8),
    last=st.sampled_from([b"0\r\n\r\n", b"0\r\nx: y\r\n\r\n", b"", b"00\r\n\r\n"]),
    places=st.lists(st.integers(0, 900), max_size=8),
    at_chunks=st.booleans(),
)
def test_a_body_is_what_the_parser_makes_of_it(chunks, last, places, at_chunks):
    data, ends = HEAD, list(places)
    for size, payload, end in chunks:
        if at_chunks:
            ends.append(len(data))
        data += size % len(payload) + b"\r\n" + payload + end
    if at_chunks:
        ends.append(len(data))
    pieces = cut(data + last, ends)
    assert answered(pieces) == parsed(pieces)


# -- events


class Unknown(KnownEvents):
    """Reads everything."""

    def __init__(self):
        super().__init__()
        self.find = lambda _: None


def chunk_of(name, choice=None, **more):
    head = {"id": name, "object": "text_completion", "created": 1, "model": "m"}
    return {**head, "choices": [] if choice is None else [choice], **more}


def choice_of(token_ids=(7,), text="a", **more):
    logprobs = {"logprobs": None, "finish_reason": None, "stop_reason": None}
    told = None if token_ids is None else list(token_ids)
    return {"index": 0, "text": text, **logprobs, "token_ids": told, **more}


def event(said, end="\n\n", start="data: "):
    said = said if isinstance(said, str) else json.dumps(said, separators=(",", ":"))
    return f"{start}{said}{end}".encode()


USAGE = {"prompt_tokens": 3, "prompt_tokens_details": {"cached_tokens": 2}}
STOP, LOGPROBS = (
    {"text": "", "finish_reason": "stop"},
    {"logprobs": {"token_logprobs": [-0.5], "top_logprobs": [{"token_id:7": -0.5}]}},
)
TEXTS = st.sampled_from(["a", " the", 'x","choices":[', "\n", "é", "\\", '"', "", "data: [DONE]"])
IDS = st.sampled_from([(7,), (8,), (7, 8), (), None])
NAMES = st.sampled_from(["one", "one", "one", "two", 'q"q', '"choices":['])
TOKENS = st.builds(lambda n, i, t: event(chunk_of(n, choice_of(i, t))), NAMES, IDS, TEXTS)
PLAIN = event(chunk_of("one", choice_of()))
LENGTH = event(chunk_of("one", choice_of(finish_reason="length")))
ODD = st.sampled_from(
    [
        event("[DONE]"),
        event(chunk_of("one", usage=USAGE)),
        event(chunk_of("one", choice_of(), usage=USAGE)),
        LENGTH,
        event(chunk_of("one", choice_of((8,), "", finish_reason="stop"))),
        event(chunk_of("one", choice_of((), "", finish_reason="stop"))),
        event(chunk_of("one", choice_of(**LOGPROBS))),
        event(chunk_of("one", choice_of(prompt_token_ids=[1] * 300))),
        event(chunk_of("one", choice_of(), error={"code": 400})),
        event({"error": {"code": 500, "message": "x"}}),
        event({"error": {"code": 400}, **chunk_of("one", choice_of())}),
        event({"usage": USAGE, **chunk_of("one", choice_of())}),
        event({"deep": chunk_of("one", choice_of()), "choices": []}),
        event({**chunk_of("one"), "choices": [choice_of(), choice_of((9,))]}),
        event(chunk_of("one", choice_of()), end="\r\n\r\n"),
        event(chunk_of("one", choice_of()), end="\n"),
        event(chunk_of("one", choice_of()), start="data:"),
        b": ping\n\n",
        b": ping\n" + event(chunk_of("one", choice_of())),
        b"event: x\n",
        b"\n",
        event("{"),
        event('{"choices":[{"text":"\xff'),
        event(chunk_of("one", choice_of()))[:-2],
    ]
)
# Few different ones, so that they come again: in one stream and in the next.
SETS = st.lists(ODD | TOKENS, min_size=1, max_size=3)
ORDERS = st.lists(st.integers(0, 5), min_size=1, max_size=8)
KINDS: dict[str, Any] = {
    "ids": {},
    "logprobs": {"n_logprobs": 1},
    "texts": {"takes_texts": True, "ends": frozenset({7})},
}


def heard(pieces, kind, known):
    reader = CompletionReader(**KINDS[kind], known=known)
    found = [one for piece in pieces for one in reader.feed(piece)]
    return [*found, *reader.end()]


@settings(max_examples=700, deadline=None, derandomize=True)
@given(
    events=SETS,
    orders=st.lists(ORDERS, min_size=2, max_size=4),
    kinds=st.lists(st.sampled_from(["ids", *KINDS]), min_size=4, max_size=4),
    places=st.just([]) | st.lists(st.integers(0, 2000), max_size=6),
    together=st.just(set()) | st.sets(st.integers(0, 7), max_size=4),
)
def test_what_is_known_is_what_reading_it_again_finds(events, orders, kinds, places, together):
    """Streams share what they learn, whatever they are. `together`: events without a cut behind."""
    known = KnownEvents()
    for order, kind in zip(orders, kinds, strict=False):
        data, ends = b"", list(places)
        for n, at in enumerate([5, *order]):
            data += events[at] if at < len(events) else PLAIN
            if n not in together:
                ends.append(len(data))
        pieces = cut(data, ends)
        assert heard(pieces, kind, known) == heard(pieces, kind, Unknown())


TOKEN = json.dumps(choice_of(), separators=(",", ":"))
DEEP = f'data: {{"deep":{{"choices":[]}},"choices":[{TOKEN}]}}\n\n'.encode()
WORST = {
    "an end that is also a token": ("texts", [event(chunk_of("one", choice_of((8,), **STOP)))]),
    "usage beside a token": ("ids", [event(chunk_of("one", choice_of(), usage=USAGE)), LENGTH]),
    "log probabilities not asked for": ("ids", [event(chunk_of("one", choice_of(**LOGPROBS)))]),
    "choices deeper": (
        "ids",
        [DEEP, PLAIN, PLAIN[: PLAIN.index(b"[") + 1] + DEEP.split(b"[", 1)[1]],
    ),
    "a line that goes on": ("ids", [PLAIN + b'data: {"error"', b':{"code":400}}\n\n']),
}


@pytest.mark.parametrize("name", WORST)
def test_what_must_not_be_learned(name):
    known = KnownEvents()
    kind, events = WORST[name]
    for other in (kind, kind, "ids", "logprobs", "texts"):
        pieces = [PLAIN, *events]
        assert heard(pieces, other, known) == heard(pieces, other, Unknown())


def test_a_token_that_another_stream_had_is_not_read_again():
    dialect = VllmDialect()
    first, second = dialect.reader(), dialect.reader()
    said = [event(chunk_of("one", choice_of((n,), f"t{n}"))) for n in range(1, 4)]
    also = [event(chunk_of("two", choice_of((n,), f"t{n}"))) for n in range(1, 4)]
    told = [first.feed(one)[0] for one in said]
    assert told == [Heard((n,)) for n in range(1, 4)]
    again = [second.feed(one)[0] for one in also]
    assert [one is other for one, other in zip(told, again, strict=True)] == [False, True, True]


def test_what_is_known_has_a_bound():
    known = KnownEvents()
    known.add(b"x" * (MAX_BYTES + 1), Heard((1,)))
    assert len(known) == 0
    for n in range(MAX_KNOWN + 5):
        known.add(b"%d" % n, Heard((n,)))
    assert len(known) == 5
    assert known.find(b"%d" % MAX_KNOWN) == (Heard((MAX_KNOWN,)),)
