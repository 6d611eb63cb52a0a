"""Token ids of a body: whatever a list of them looks like, it is read as JSON says or refused."""

import random

import msgspec
import numpy as np
import pytest

from radixroute.request.errors import InvalidRequest
from radixroute.router.api.giants.json_prompts import TokenId, ids_of, reader_of_ids

DECODER = msgspec.json.Decoder(list[TokenId])
PIECES = [b"0", b"7", b"12", b"00", b"4294967295", b"4294967296", b"99999999999", b"-1", b"1.0",
          b"1e2", b",", b",", b",", b" ", b"  ", b"\n", b"\t", b"[", b"]", b'"3"', b"null", b"true",
          b"\x00", b"\xff", b"+1", b".", b"18446744073709551617"]  # fmt: skip


def expected(data: bytes) -> list[int] | None:
    try:
        return DECODER.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None


def given(data: bytes) -> list[int] | None:
    try:
        return list(ids_of(data).tolist())
    except InvalidRequest:
        return None


@pytest.mark.parametrize("seed", range(20))
def test_lists_of_ids_are_read_as_another_reader_has_them(seed):
    rng = random.Random(seed)
    for _ in range(200):
        pieces = rng.choices(PIECES, k=rng.randrange(12))
        if rng.random() < 0.5:
            numbers = [rng.choice([b"%d" % rng.getrandbits(rng.randrange(34)), b"5"])]
            pieces = [b"," if n % 2 else rng.choice([*numbers, b"12"]) for n in range(9)]
        data = b"[" + b"".join(pieces) + rng.choice([b"]", b"]", b"", b" ]"])
        assert given(data) == expected(data), data


@pytest.mark.parametrize("text", ["[1]", "[1,2]", "[1, 2]", "[0,4294967295]", "[ 7 , 8 ]"])
def test_what_clients_send_takes_the_short_way(text):
    data = text.encode()
    ids = np.empty(len(data) // 2 + 1, np.uint32)
    n_ids = reader_of_ids()(np.frombuffer(data, np.uint8), ids)
    assert ids[:n_ids].tolist() == msgspec.json.decode(data)


@pytest.mark.parametrize(
    "text", ["[]", "[01]", "[1,]", "[,1]", "[4294967296]", "[1 2]", "[1]]", "["]
)
def test_what_is_no_plain_list_is_looked_at_by_another(text):
    data = text.encode()
    ids = np.empty(len(data) // 2 + 1, np.uint32)
    assert reader_of_ids()(np.frombuffer(data, np.uint8), ids) == -1
