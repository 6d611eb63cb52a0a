"""Long-run fuzzer of bodies of the OpenAI door: `python -m tests.tools.fuzz_bodies`.

Bodies with fields that reach into an engine, however they are spelled and wherever they stand,
doubled, torn and padded. What is read of one is what would be read of it without these fields, or
one `InvalidRequest`; so nothing of them comes to a worker. Part of test-slow.
"""

import argparse
import json
import random
import time
from collections import Counter
from typing import Any

import msgspec

from radixroute.request.errors import InvalidRequest
from radixroute.router.api.http.asked.bodies import Read, read_body
from radixroute.router.api.http.asked.fields import STRIPPED, STRIPPED_BEGINNINGS
from radixroute.router.api.http.asked.model_defaults import NONE
from radixroute.router.api.http.asked.openai_request import Sender, asked_for

BODIES = 1_000_000
NOBODY = frozenset[str]()
OURS = {
    "messages": [{"role": "user", "content": "hello"}], "prompt": "hello", "model": "tiny", "n": 2,
    "temperature": 0.5, "max_tokens": 7, "stop": ["x"], "seed": 3, "stream": True, "user": "me",
    "logit_bias": {"7": 1}, "top_k": 4,
}  # fmt: skip
VALUES: tuple[Any, ...] = (
    1, None, "x", {"priority": 1}, [1, 2], -1e3, "\U0001f600\"}", {"messages": []}, True, "", {},
)  # fmt: skip
SPACES = ("", "", " ", "\n\t ", "\r")


def is_stripped(name: str) -> bool:
    return name in STRIPPED or name.startswith(STRIPPED_BEGINNINGS)


def spelled(rng: random.Random, name: str) -> str:
    """As JSON may have it."""
    return '"' + "".join(rng.choice((one, one, f"\\u{ord(one):04x}")) for one in name) + '"'


def drawn(rng: random.Random, is_chat: bool) -> tuple[bytes, bytes | None]:
    """A body, and the same without what is stripped; None: it was torn."""
    names = ["messages" if is_chat else "prompt", *rng.sample(sorted(OURS), rng.randrange(4))]
    names = [name for name in names if name != ("prompt" if is_chat else "messages")]
    pairs: list[tuple[str, Any]] = [(name, OURS[name]) for name in dict.fromkeys(names)]
    theirs = (*STRIPPED, *(f"{one}room" for one in STRIPPED_BEGINNINGS))
    for _ in range(rng.randrange(1, 5)):
        pairs.insert(rng.randrange(len(pairs) + 1), (rng.choice(theirs), rng.choice(VALUES)))
    data = worded(rng, pairs)
    if rng.random() < 0.2:
        at = rng.randrange(len(data))
        return rng.choice((data[:at], data[:at] + data[at + 1 :], data + data)), None
    return data, worded(rng, [pair for pair in pairs if not is_stripped(pair[0])])


def worded(rng: random.Random, pairs: list[tuple[str, Any]]) -> bytes:
    parts = []
    for name, value in pairs:
        a, b, c, d = (rng.choice(SPACES) for _ in range(4))
        parts.append(f"{a}{spelled(rng, name)}{b}:{c}{json.dumps(value)}{d}")
    return ("{" + ",".join(parts) + "}").encode()


def told(read: Read) -> tuple[Any, ...]:
    """All that goes on from here to a worker."""
    sender = Sender(
        session_key="", last_of_session=None, tenant="", model="", lora="",
        cache_salt=read.cache_salt, priority=read.priority,
    )  # fmt: skip
    asked = [asked_for(sender, read.body, form, data, lambda: NONE) for form, data in read.prompts]
    prompts = [(one.form, msgspec.json.decode(one.data)) for one in asked]
    return prompts, asked[0].sampling(), read.cache_salt, read.priority, read.n, read.body.stream


def fuzz(seed: int, bodies: int) -> Counter[str]:
    """Raises AssertionError with the body that something of came through, and any other error."""
    rng, seen = random.Random(seed), Counter[str]()
    for number in range(bodies):
        is_chat = rng.random() < 0.5
        data, without = drawn(rng, is_chat)
        try:
            read = read_body(data, is_chat=is_chat, allowed=NOBODY)
        except InvalidRequest:
            assert without is None, data
            seen["refused"] += 1
            continue
        except Exception as error:
            error.add_note(f"seed {seed}, body {number}: {data!r}")
            raise
        assert (read.cache_salt, read.priority) == ("", None), data
        if without is None:
            seen["torn, and read"] += 1
            continue
        assert told(read) == told(read_body(without, is_chat=is_chat, allowed=NOBODY)), data
        assert read.n_dropped > 0
        seen["read"] += 1
    return seen


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--bodies", type=int, default=BODIES)
    options = parser.parse_args()
    started = time.monotonic()
    seen = fuzz(options.seed, options.bodies)
    print(dict(seen), f"{time.monotonic() - started:.0f} s")


if __name__ == "__main__":
    main()
