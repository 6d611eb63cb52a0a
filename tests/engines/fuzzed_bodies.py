"""Bodies as nobody means them, by seed: names spelled in all ways, values of all kinds, torn JSON.

Pools are made once, so that a body costs little more than what reads it.
"""

import random
from collections.abc import Callable
from typing import Final, TypeAlias

from radixroute.router.api.http.asked.fields import STRIPPED, STRIPPED_BEGINNINGS
from tests.engines.bodies import CANARY

BAD: Final = (*sorted(STRIPPED), *(f"{one}room" for one in STRIPPED_BEGINNINGS))
# Nearly those, and what a door reads.
GOOD: Final = (
    "model", "messages", "tools", "stream", "prompt", "max_tokens", "tomorrow", "n", "",
    "caf\u00e9", "Priority", "priority ", "\u0440riority", "cache-salt", "cache_salt\u0000",
    "bootstrap", "\U0001f600",
)  # fmt: skip
_BIG: Final = b"9" * 400
VALUES: Final = (
    b"1", b"null", b"true", b'"x"', b"-1e3", b'""', b"[]", b"{}", b"1e400", _BIG, b"-0.0",
    b"[1, 2]",
    b"0." + _BIG, f'"{CANARY}"'.encode(), f'{{"cache_salt":"{CANARY}"}}'.encode(),
    b'{"priority":1,"priority":2}', b'"\\ud83d\\ude00\\"}"', b'"\\ud800"', b'"\\u0000"', b'"\\\\"',
    b'[{"role":"user","content":"hi"}]', b'[{"role":"user","content":[{"type":"image_url"}]}]',
    b'"{\\"rid\\":1}"', b"[" * 60 + b"]" * 60, b'{"a":' * 60 + b"1" + b"}" * 60, b'"caf\xc3\xa9"',
)  # fmt: skip
# No JSON, or not everywhere: nobody may read one thing in it and somebody else another one.
ODD: Final = (
    b"NaN", b"-Infinity", b"01", b"+1", b"1.", b".5", b"'x'", b'"\xff"', b'"\xed\xa0\x80"',
    b'"a\nb"',
    b'"\x00"', b"0x1", b"tru", b'"\\x"', b"1_000", b'"', b"{", b"[1,]", b'{"rid":1,}', b"/**/1",
    b"",
    b"[" * 3000 + b"]" * 3000, b'{"rid":' * 3000, b"1 2", b'"x""y"', b'"\\ud800\\u0041"',
)  # fmt: skip
_SPACES: Final = (b"", b"", b"", b" ", b"\n\t ", b"\r", b"\r\n")
_ODD_SPACES: Final = (b"\x0b", b"\xc2\xa0", b"\x00", b"//\n", b"\xef\xbb\xbf")
_SPELLINGS: Final = 24  # of each name


_BEHIND: Final = (b"x", b"\x00", b",", b"{}", b" \n", b"]")
_BEFORE: Final = (b"", b"null", b'"{}"', b"[]", b"1", b" ")
_ENCODINGS: Final = ("utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-7")
Break: TypeAlias = Callable[[random.Random, bytes, int], bytes]
# Torn, changed, doubled, wrapped, or in another encoding.
BREAKS: Final[tuple[Break, ...]] = (
    lambda rng, data, at: data[:at],
    lambda rng, data, at: data[:at] + data[at + 1 :],
    lambda rng, data, at: data[:at] + bytes((rng.randrange(256),)) + data[at + 1 :],
    lambda rng, data, at: data[:at] + rng.choice(ODD) + data[at:],
    lambda rng, data, at: data + rng.choice(_BEHIND),
    lambda rng, data, at: data + data,
    lambda rng, data, at: b"\xef\xbb\xbf" + data,
    lambda rng, data, at: data.decode("latin-1").encode(rng.choice(_ENCODINGS)),
    lambda rng, data, at: b"[" + data + b"]",
    lambda rng, data, at: b'{"tools":' + data + b',"priority":' + data + b"}",
    lambda rng, data, at: b'{"a":[' + b",".join([data] * 3) + b"]," + data[1:],
    lambda rng, data, at: rng.choice(_BEFORE) + data[:at],
    lambda rng, data, at: rng.choice(_SPACES) + data + rng.choice(_SPACES),
)


class Bodies:
    """`take` one after the other."""

    def __init__(self, seed: int) -> None:
        self._rng = rng = random.Random(seed)
        names = [spelled(rng, one) for one in (*BAD, *GOOD) for _ in range(_SPELLINGS)]
        self._members = [self._member(name) for name in names for _ in range(4)]

    def take(self) -> bytes:
        rng = self._rng
        most = rng.random()
        data = b"{" + b",".join(rng.choices(self._members, k=int(8 * most * most) + 1)) + b"}"
        return data if rng.random() < 0.7 else self._broken(data)

    def _member(self, name: bytes) -> bytes:
        rng = self._rng
        value = rng.choice(ODD if rng.random() < 0.05 else VALUES)
        pads = [rng.choice(_SPACES) for _ in range(4)]
        if rng.random() < 0.02:
            pads[rng.randrange(4)] = rng.choice(_ODD_SPACES)
        return b"%b%b%b:%b%b%b" % (pads[0], name, pads[1], pads[2], value, pads[3])

    def _broken(self, data: bytes) -> bytes:
        return self._rng.choice(BREAKS)(self._rng, data, self._rng.randrange(len(data) + 1))


def spelled(rng: random.Random, name: str) -> bytes:
    """A name as JSON may have it."""
    out = ""
    for one in name:
        units = one.encode("utf-16-be").hex()
        escaped = "".join(f"\\u{units[at : at + 4]}" for at in range(0, len(units), 4))
        plain = one if one >= " " else escaped
        out += rng.choice((plain, plain, escaped, escaped.upper().replace("\\U", "\\u")))
    return f'"{out}"'.encode()
