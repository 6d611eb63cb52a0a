"""One answer that goes by: what comes in one turn in one piece, its end behind all of it."""

import random
import time
from dataclasses import replace

from radixroute.request.sampling import FinishReason
from radixroute.request.verbatim.records import PATHS, Verbatim
from radixroute.worker.companions.calls import Calls
from radixroute.worker.companions.dialects.common.passages import OpenAIPassages
from radixroute.worker.companions.dialects.dialect import Heard
from radixroute.worker.companions.dialects.vllm import VllmDialect
from radixroute.worker.companions.tick import StepMeter
from radixroute.worker.companions.verbatim.lane import Lane
from radixroute.worker.companions.verbatim.relaying import Relaying
from radixroute.worker.engine.engine import MoreOutput
from tests.engines.bodies import EVENT
from tests.engines.test_calls import request
from tests.router.clusters import until

USAGE = (
    b'data: {"choices":[],"usage":{"prompt_tokens":9,"completion_tokens":7,'
    b'"prompt_tokens_details":{"cached_tokens":4}}}\n\ndata: [DONE]\n\n'
)


class Source:
    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")


class Relay:
    """One answer from its head on."""

    def __init__(self, allowance: int = 10_000) -> None:
        asked = replace(request(), verbatim=Verbatim(PATHS[0], b"{}", 5), allowance=allowance)
        self.heard: list[Heard] = []
        self.n_woken = 0
        self.calls, self.meter = Calls(4), StepMeter(4)
        self.lane = Lane(self._woken)
        self.relaying = Relaying(asked, VllmDialect("s"), self._hear, self.lane)
        self.source = Source()
        self.relaying.bring(self.source)
        self.calls.acknowledge(asked)
        self.call = self.calls.begin(asked, uncached_tokens=5, now_ns=0)
        self.call.relaying = self.relaying
        self.relaying.head(200, "text/event-stream; charset=utf-8")

    def _woken(self) -> None:
        self.n_woken += 1

    def _hear(self, heard: Heard) -> None:
        self.heard.append(heard)
        self.calls.hear(self.call, heard, 1)

    def take(self, now_ns: int = 2) -> list[tuple[bytes, int]]:
        more: tuple[MoreOutput, ...] = self.lane.take(self.calls, self.meter, now_ns)
        self.calls.check()
        return [(one.data, one.n_tokens) for one in more]

    def passages(self) -> list[bytes]:
        return [one.passage.data for one in self.heard if one.passage is not None]


def test_what_comes_in_one_turn_goes_in_one_piece():
    relay = Relay()
    relay.relaying.body(EVENT)
    assert relay.passages() == [EVENT]
    assert relay.take() == []
    for _ in range(3):
        relay.relaying.body(EVENT)
    relay.relaying.body(EVENT[:9])
    assert relay.n_woken == 1
    assert relay.take() == [(EVENT * 3 + EVENT[:9], 3)]
    assert relay.take() == []
    relay.relaying.body(EVENT[9:])
    assert relay.take() == [(EVENT[9:], 1)], "an event counts where it ends"
    assert relay.passages() == [EVENT]
    assert relay.call.n_output == 5


async def test_what_comes_soon_after_waits_a_moment_and_goes_together(monkeypatch):
    monkeypatch.setattr("radixroute.worker.companions.verbatim.lane.GAP_NS", 50_000_000)
    relay = Relay()
    relay.relaying.body(EVENT)
    relay.relaying.body(EVENT)
    assert relay.n_woken == 1, "whoever is alone waits for none"
    assert relay.take(time.monotonic_ns()) == [(EVENT, 1)]
    relay.relaying.body(EVENT)
    relay.relaying.body(EVENT)
    assert relay.n_woken == 1
    await until(lambda: relay.n_woken == 2)
    assert relay.take(time.monotonic_ns()) == [(EVENT * 2, 2)]
    relay.relaying.body(EVENT)
    relay.relaying.ended()
    assert relay.passages()[-1] == EVENT, "its end does not wait"


def test_its_end_takes_along_what_waited():
    relay = Relay()
    relay.relaying.body(EVENT)
    relay.relaying.body(EVENT)
    relay.relaying.body(USAGE)
    relay.relaying.ended()
    assert relay.passages() == [EVENT, EVENT + USAGE]
    last = relay.heard[-1]
    assert (last.finish, last.prompt_tokens, last.cached_tokens) == (FinishReason.STOP, 9, 4)
    assert [one.passage.n_tokens for one in relay.heard if one.passage] == [1, 6]
    assert relay.take() == []


def test_what_came_before_it_broke_goes_before_that():
    relay = Relay()
    relay.relaying.body(EVENT)
    relay.relaying.body(EVENT[:5])
    relay.relaying.failed(was_sent=True)
    assert relay.passages() == [EVENT, EVENT[:5]]
    assert [one.finish for one in relay.heard] == [None, None, FinishReason.ABORT]
    assert relay.take() == []


def test_of_what_was_given_up_nothing_comes_any_more():
    relay = Relay()
    relay.relaying.body(EVENT)
    relay.relaying.body(EVENT)
    relay.calls.cancel(relay.call)
    assert relay.take() == []
    assert len(relay.calls) == 0


def test_no_more_is_read_than_its_client_takes():
    relay = Relay(allowance=len(EVENT) + 1)
    relay.relaying.body(EVENT)
    assert relay.source.told == []
    relay.relaying.body(EVENT)
    assert relay.source.told == ["pause"]
    assert relay.relaying.is_paused
    assert relay.take() == [(EVENT, 1)]
    relay.relaying.allow(len(EVENT) - 1)
    assert relay.source.told == ["pause"]
    relay.relaying.allow(1)
    assert relay.source.told == ["pause", "resume"]


def test_an_error_in_the_middle_of_a_piece_is_seen():
    relay = Relay()
    relay.relaying.body(EVENT)
    relay.relaying.body(EVENT + b'data: {"error":{"code":500}}\n\n')
    assert [n for _, n in relay.take()] == [1]
    relay.relaying.ended()
    assert relay.heard[-1].is_engine_fault


def test_what_it_says_does_not_depend_on_how_it_is_cut():
    rng = random.Random(11)
    lines = (
        EVENT, EVENT, b": a comment\n\n", b"data: {}\r\n\r\n", b"event: x\ndata: 1\n\n", b"\n",
        b'data: {"choices":[{"delta":{"content":"data: \\"prompt_tokens\\""}}]}\n\n',
        b'data:{"error":{"code":503}}\n\n', USAGE,
    )  # fmt: skip
    for _ in range(300):
        whole = b"".join(rng.choices(lines, k=rng.randrange(1, 9)))
        told = set[tuple[object, ...]]()
        for n_cuts in (0, 1, 4, len(whole)):
            reader = OpenAIPassages(is_stream=True)
            cuts = sorted(rng.sample(range(len(whole) + 1), min(n_cuts, len(whole))))
            for start, end in zip([0, *cuts], [*cuts, len(whole)], strict=True):
                reader.feed(whole[start:end])
            n_tokens, usage = reader.take_tokens(), (reader.prompt_tokens, reader.cached_tokens)
            told.add((n_tokens, *usage, reader.failed, reader.has_event))
        assert len(told) == 1, (whole, told)
