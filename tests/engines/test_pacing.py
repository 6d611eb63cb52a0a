"""When tokens come: what each takes, whether they are held back, and what says neither."""

import pytest

from radixroute.worker.companions.join.pacing import FEWEST, Pace, Pacing, Round, pace_of
from tests.engines.alone import known
from tests.engines.examining import examined
from tests.engines.fake_cache import Extra
from tests.engines.fake_engine import FakeEngine
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_run import Run
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm


def steady(step_s: float, *, first_s: float = 0.0, n: int = 8, each: int = 1) -> Round:
    """`each`: tokens that come together."""
    first_s = first_s or step_s
    times = (first_s + step_s * each * at for at in range(n // each))
    return Round(step_s, tuple((time_s, each) for time_s in times))


def at_once(alone_s: float, after_s: float, n: int = 8) -> Round:
    return Round(alone_s, tuple((after_s + at * 1e-5, 1) for at in range(n)))


@pytest.mark.parametrize("each", [1, 2])
def test_a_token_takes_what_lies_between_two_however_many_come_together(each):
    pace = pace_of([steady(0.02, each=each), steady(0.02, each=each)])
    assert pace.token_s == pytest.approx(0.02)
    assert pace.held_s == 0.0


def test_one_pause_moves_no_median():
    times = [0.01 * at + (0.5 if at > 3 else 0.0) for at in range(1, 9)]
    pace = pace_of([Round(0.01, tuple((time_s, 1) for time_s in times))])
    assert pace.token_s == pytest.approx(0.01)


def test_answers_that_come_in_one_piece_are_told_by_what_they_took_beyond_one_token():
    pace = pace_of([at_once(0.05, 0.4), at_once(0.05, 0.45)])
    assert pace.token_s is None
    assert pace.held_s == pytest.approx(0.35, abs=1e-3)


@pytest.mark.parametrize(
    "rounds",
    [
        [],
        [at_once(0.05, 0.06)],  # as quick as one token: nothing was held back
        [steady(0.002, first_s=1.0)] * 2,  # a first token that waits, and quick ones behind it
        [at_once(0.05, 0.4), steady(0.05)],  # this process paused once
        [at_once(0.05, 0.4, n=FEWEST - 1)],
        [Round(0.05, at_once(0.05, 0.4).arrivals, is_whole=False)],
        [Round(0.05, (), is_whole=False)],
    ],
)
def test_what_says_nothing_of_holding_back(rounds):
    assert pace_of(rounds).held_s == 0.0


def test_too_few_tokens_say_no_time():
    assert pace_of([Round(0.1, ((0.1, 1), (0.2, 1), (0.3, 1)))]) == Pace(None, 2)


class _Buffering(FakeVllm):
    """Behind a proxy that sends an answer once it has all of it."""

    async def stream(self, run, send):
        kept = []

        async def keep(line):
            kept.append(line)

        await super().stream(run, keep)
        for line in kept:
            await send(line)


@pytest.mark.parametrize("kind", [FakeVllm, FakeSglang, FakeOpenAi])
async def test_engines_of_every_kind_are_timed(kind):
    engine: FakeEngine = kind(step_s=0.01)
    async with known(engine) as (http, joined):
        pace = await Pacing(http, joined).run()
    assert pace is not None
    assert pace.token_s is not None
    assert 0.01 <= pace.token_s < 0.1
    assert pace.held_s == 0.0
    assert engine.in_flight == 0


async def test_a_proxy_that_buffers_is_seen():
    async with known(_Buffering(step_s=0.03)) as (http, joined):
        pace = await Pacing(http, joined).run()
    assert pace is not None
    assert pace.held_s > 0.1
    assert pace.token_s is None


async def test_an_engine_with_requests_of_others_is_not_timed():
    engine = FakeVllm(is_held=True)
    async with known(engine) as (http, joined):
        engine.enqueue(Run({}, [1, 2], 4, Extra("", "")))
        assert await Pacing(http, joined).run() is None
    assert engine.received == []


async def test_one_that_is_examined_is_timed_unless_it_answers_no_prompt():
    pace = (await examined(FakeVllm())).pace
    assert pace is not None
    assert pace.token_s is not None
    assert (await examined(FakeVllm(is_storming=True))).pace is None
