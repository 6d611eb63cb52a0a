"""The pipe's codec: every message comes back as it went, other bytes are refused."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from radixroute.events.wire.records import BlocksRemoved, BlocksStored, CacheCleared
from radixroute.radix.ids import BlockKey, Tier
from radixroute.radix.keys.scope import UNSCOPED, RequestScope
from radixroute.request.logprobs import TokenLogprob, pack_logprobs
from radixroute.request.sampling import FinishReason
from radixroute.worker.engine.engine import (
    EngineStep,
    PromptReport,
    TokenOutput,
    WorkerSessionProgress,
)
from radixroute.worker.errors import MalformedMessage
from radixroute.worker.process.messages import (
    Abort,
    EndWorkerSession,
    Failed,
    Inquire,
    Ready,
    Refused,
    Start,
    Stepped,
    Submit,
    decode_message,
    encode_message,
)
from radixroute.worker.settings import WorkerSettings
from tests.worker.fakes import make_engine, request

OUTPUT = TokenOutput(
    "id", 2, "s", 7, (1, 2**32 - 1), FinishReason.STOP, "why", PromptReport(9, 8, 1, 0.5, 1.5, 7, 3)
)
TOLD = pack_logprobs([TokenLogprob(-0.5, ((2**32 - 1, -0.25), (7, -float("inf"))))])
MESSAGES = [
    Start(WorkerSettings(model="/m", cluster_secret="hush", port=7)),
    Abort("id", 3),
    Inquire("s", "id", 3),
    EndWorkerSession("s"),
    Ready(make_engine()[0].info),
    Failed("because"),
    Refused(OUTPUT),
    Refused(TokenOutput("id", 1, "s", 0, ())),
    Refused(TokenOutput("id", 1, "s", 0, (5,), logprobs=TOLD)),
]


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_message_comes_back_as_it_went(message):
    assert decode_message(encode_message(message)) == message


def test_a_request_comes_back_with_its_arrays_and_sampling():
    scope = RequestScope(lora="l", salt="s", tenant="t")
    more = {"stop": ("x",), "stop_token_ids": (4,), "seed": 2**63, "logit_bias": ((3, -1.5),)}
    more |= {"presence_penalty": 0.5, "min_p": 0.1, "logprobs": 2}
    sent = request("r", [1, 2**32 - 1], emitted=[3], scope=scope, **more)
    sent = replace(sent, last_of_session=7)
    message = decode_message(encode_message(Submit(sent, 5)))
    assert isinstance(message, Submit)
    got = message.request
    assert message.arrived_ns == 5
    assert (got.prompt.tolist(), got.emitted.tolist()) == ([1, 2**32 - 1], [3])
    assert got.prompt.dtype == np.uint32
    assert got.sampling == sent.sampling
    assert got.scope == scope
    assert got.last_of_session == 7


def test_a_step_comes_back_with_its_events():
    keys = np.array([1, 2**64 - 1], dtype=np.uint64)
    events = (
        BlocksStored(None, keys),
        BlocksStored(
            BlockKey(2**64 - 1),
            keys,
            Tier.HOST,
            np.array([7, 2**32 - 1], np.uint32),
            RequestScope(salt="s"),
        ),
        BlocksRemoved(keys, Tier.DISK),
        CacheCleared(),
    )
    progress = WorkerSessionProgress("s", 1, 2, 3, 4)
    sent = EngineStep(5, (OUTPUT,), events, 1.25, 6, 7, 8, (progress,))
    message = decode_message(encode_message(Stepped(sent)))
    assert isinstance(message, Stepped)
    got = message.step
    assert (got.outputs, got.sessions, got.step_ms) == ((OUTPUT,), (progress,), 1.25)
    assert [type(event) for event in got.events] == [type(event) for event in events]
    first, stored, removed, _ = got.events
    assert isinstance(first, BlocksStored)
    assert first.tokens is None
    assert first.scope is UNSCOPED
    assert isinstance(stored, BlocksStored)
    assert isinstance(removed, BlocksRemoved)
    assert stored.parent == 2**64 - 1
    assert stored.scope == RequestScope(salt="s")
    assert stored.keys.tolist() == keys.tolist()
    assert stored.tokens is not None
    assert stored.tokens.tolist() == [7, 2**32 - 1]
    assert removed.tier is Tier.DISK


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.binary(max_size=40), st.sampled_from(MESSAGES), st.integers(0, 200))
def test_any_other_bytes_are_one_error(noise, message, cut):
    whole = encode_message(message)
    for data in (noise, whole[:cut], whole[:cut] + noise):
        try:
            decode_message(data)
        except MalformedMessage:
            continue
