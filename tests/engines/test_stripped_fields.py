"""Whatever a body looks like, nothing that reaches into an engine gets there."""

import json
import random
from typing import Any

import pytest

from radixroute.request.errors import InvalidRequest
from radixroute.request.verbatim.bodies import body_of, fields_of
from radixroute.router.api.http.asked.fields import STRIPPED, STRIPPED_BEGINNINGS
from radixroute.router.api.http.asked.verbatim_body import read_verbatim

SEED = 20261129
NONE = frozenset[str]()
NAMES = (
    *sorted(STRIPPED), *(f"{one}room" for one in STRIPPED_BEGINNINGS),
    "model", "messages", "tools", "stream", "tomorrow", "n", "", "caf\u00e9",
)  # fmt: skip
VALUES = (b"1", b"null", b'"x"', b'{"priority":1}', b"[1, 2]", b"-1e3", b'"\\ud83d\\ude00\\"}"')
SPACES = (b"", b"", b" ", b"\n\t ", b"\r")


def spelled(rng: random.Random, name: str) -> bytes:
    """A name as JSON may have it."""
    out = ""
    for one in name:
        escaped = f"\\u{ord(one):04x}"
        out += rng.choice((one, one, escaped, escaped.upper().replace("\\U", "\\u")))
    return f'"{out}"'.encode()


def body(rng: random.Random) -> bytes:
    parts = []
    for _ in range(rng.randrange(9)):
        name, value = rng.choice(NAMES), rng.choice(VALUES)
        pad = [rng.choice(SPACES) for _ in range(4)]
        parts.append(b"%b%b%b:%b%b%b" % (pad[0], spelled(rng, name), pad[1], pad[2], value, pad[3]))
    data = b"{" + b",".join(parts) + b"}"
    if rng.random() < 0.3:  # torn, doubled, or with something behind it
        at = rng.randrange(len(data) + 1)
        data = rng.choice(
            (data[:at], data[:at] + data[at + 1 :], data + data, b"\xef\xbb\xbf" + data)
        )
    return data


def is_stripped(name: str) -> bool:
    return name in STRIPPED or name.startswith(STRIPPED_BEGINNINGS)


def read_there(data: bytes) -> Any:
    """As an engine reads it."""
    pairs: list[str] = []

    def note(found: list[tuple[str, Any]]) -> dict[str, Any]:
        pairs[:] = [name for name, _ in found]  # the outermost comes last
        return dict(found)

    return json.loads(data, object_pairs_hook=note), pairs


@pytest.mark.parametrize("n_bodies", [4000, pytest.param(1_000_000, marks=pytest.mark.deep)])
def test_none_of_them_reaches_the_engine_and_the_rest_does(n_bodies):
    rng = random.Random(SEED)
    n_read = n_stripped = n_kept = 0
    for _ in range(n_bodies):
        data = body(rng)
        try:
            sent = read_verbatim(data, is_chat=True, allowed=NONE).verbatim.body
        except InvalidRequest:
            continue
        n_read += 1
        there, names = read_there(sent)
        assert not any(map(is_stripped, names)), data
        came, given = read_there(data)
        wanted = {name: value for name, value in came.items() if not is_stripped(name)}
        assert there == wanted, data
        if not any(map(is_stripped, given)):
            assert sent is data
            n_kept += 1
        n_stripped += sent != data
    assert min(n_read, n_stripped, n_kept) > n_bodies // 20


def test_values_stay_as_they_are_byte_for_byte():
    data = b'{"priority":3,"a" : [1.0,  2e0, "\\u00e9"] ,"b":{"x" :1}}'
    sent = read_verbatim(data, is_chat=True, allowed=NONE).verbatim.body
    assert sent == b'{"a":[1.0,  2e0, "\\u00e9"],"b":{"x" :1}}'
    assert body_of(fields_of(sent)) == sent


def test_what_an_operator_allows_goes_on_but_for_what_is_ours():
    data = b'{"kv_transfer_params":{"x":1},"cache_salt":"s","priority":2,"rid":"r"}'
    allowed = frozenset(("kv_transfer_params", "cache_salt", "priority"))
    read = read_verbatim(data, is_chat=True, allowed=allowed)
    assert read.verbatim.body == b'{"kv_transfer_params":{"x":1}}'
    assert (read.cache_salt, read.priority, read.n_dropped) == ("s", 2, 1)
