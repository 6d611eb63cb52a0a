"""Whatever a body looks like, nothing that reaches into an engine gets there."""

import json
import logging
from typing import Any

import numpy as np
import pytest

from radixroute.request.errors import InvalidRequest
from radixroute.request.sampling import SamplingParams
from radixroute.request.verbatim.bodies import body_of, fields_of
from radixroute.request.verbatim.records import PATHS, Verbatim
from radixroute.router.api.http.asked.fields import STRIPPED, STRIPPED_BEGINNINGS
from radixroute.router.api.http.asked.verbatim_body import read_verbatim
from radixroute.worker.companions.dialects.common.verbatim import handed_on
from radixroute.worker.engine.engine import EngineRequest
from tests.engines.bodies import CANARY, EVENT
from tests.engines.fake_chats import Scripted
from tests.engines.fleets import fleet
from tests.engines.fuzzed_bodies import Bodies
from tests.router.clusters import until
from tests.router.http.wire import CHATS, COMPLETIONS, connected, nobody_is_in

SEED = 20261129
NONE = frozenset[str]()
# What a companion sets, in some of them.
OURS = {"model": "fake-model", "cache_salt": "digest"}
OURS_EACH = 8
NO_TOKENS = np.empty(0, np.uint32)


def is_stripped(name: str) -> bool:
    return name in STRIPPED or name.startswith(STRIPPED_BEGINNINGS)


def as_handed_on(body: bytes) -> bytes:
    """By a companion, to its engine."""
    asked = Verbatim(PATHS[0], body, 1)
    request = EngineRequest("r", 1, "s", NO_TOKENS, SamplingParams(), NO_TOKENS, verbatim=asked)
    return handed_on(request, "call", OURS).body


def read_there(data: bytes) -> Any:
    """As an engine reads it that takes what others refuse: by name, and all names as they come."""
    names: list[str] = []

    def note(found: list[tuple[str, Any]]) -> dict[str, Any]:
        names[:] = [name for name, _ in found]  # the outermost comes last
        return dict(found)

    text = data.decode("utf-8", "replace")
    return json.loads(text, strict=False, object_pairs_hook=note), names


@pytest.mark.parametrize(
    "n_bodies",
    [
        4000,
        pytest.param(100_000, marks=pytest.mark.deep),
        pytest.param(1_000_000, marks=pytest.mark.slow),
    ],
)
def test_none_of_them_reaches_the_engine_and_the_rest_does(n_bodies):
    bodies = Bodies(SEED + n_bodies)
    n_read = n_stripped = n_kept = 0
    refusals = set[str]()  # fixed sentences
    for number in range(n_bodies):
        data = bodies.take()
        try:
            sent = read_verbatim(data, is_chat=number % 2 == 0, allowed=NONE).verbatim.body
        except InvalidRequest as error:
            refusals.add(str(error))
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
        if number % OURS_EACH == 0:
            there, names = read_there(as_handed_on(sent))
            assert [name for name in names if is_stripped(name)] == ["cache_salt"], data
            assert there["cache_salt"] == "digest", data
            assert {**wanted, **there} == there, data
    assert min(n_read, n_stripped, n_kept) > n_bodies // 20
    assert len(refusals) < 20
    assert not any(CANARY in told for told in refusals)


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


@pytest.mark.parametrize("n_bodies", [250, pytest.param(10_000, marks=pytest.mark.deep)])
async def test_through_both_paths_of_the_door_nothing_dies_and_no_log_has_a_word(caplog, n_bodies):
    """Whatever comes is answered or refused by a status that the door declares."""
    caplog.set_level(logging.DEBUG)
    bodies = Bodies(SEED)
    seen = dict[int, int]()
    async with fleet("a") as made, connected(made.router) as client:
        engine = made.engines["a"]
        engine.chats.scripted = [Scripted(pieces=(EVENT,))] * n_bodies
        for number in range(n_bodies):
            told = await client.ask(COMPLETIONS if number % 2 else CHATS, bodies.take())
            seen[told.status] = seen.get(told.status, 0) + 1
        await until(lambda: nobody_is_in(made.router))
        for sent in engine.chats.bodies:
            assert not any(map(is_stripped, read_there(sent)[1])), sent
        assert len(engine.chats.bodies) > n_bodies // 10
    assert set(seen) <= {200, 400, 404}, seen
    assert CANARY not in caplog.text
