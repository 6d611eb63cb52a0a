"""Events that only replays tell: an event port that nothing arrives from is no healthy one."""

from types import SimpleNamespace
from typing import Any

import pytest

from radixroute.worker.companions.join.findings import JoinRefused
from radixroute.worker.companions.join.trying_out import Patience, TryingOut
from radixroute.worker.companions.settings import CompanionSettings
from tests.engines.alone import known
from tests.engines.examining import codes_of, examined
from tests.engines.fake_vllm import FakeVllm

NOWHERE = "tcp://127.0.0.1:9"
BRIEF = Patience(replay_s=0.15, heard_s=0.02)


class _Misplaced(FakeVllm):
    """Says that its events are where nobody sends any; its replay endpoint is right."""

    def _sources(self):
        return {"0": {**super()._sources()["0"], "endpoint": "tcp://*:9"}}


async def test_an_event_port_that_nobody_is_at_is_named_though_replays_are_answered():
    seen = await examined(_Misplaced(), patience=BRIEF)
    assert codes_of(seen) == {"events_not_live"}
    assert NOWHERE in seen.findings[0].detail
    assert "replay endpoint answers" in seen.findings[0].problem


def _told_by_replays(batches: Any) -> Any:
    """A rank whose events hold every canary; `batches`: that came live, as they are looked at."""

    class Follower:
        is_begun = has_replay = True
        is_cut = False

        @property
        def batches(self) -> int:
            return int(next(batches))

    mirror = SimpleNamespace(cached_tokens=lambda tokens, scope: len(tokens))
    return SimpleNamespace(mirror=mirror, follower=Follower())


async def _tried(batches: list[int], **settings: Any) -> tuple[Any, int]:
    """What it is known as, and how many prompts it got."""

    def seen() -> Any:
        yield from batches
        while True:
            yield batches[-1]

    engine = FakeVllm()
    async with known(engine) as (http, joined):
        trying = TryingOut(CompanionSettings(**settings), http, joined, BRIEF)
        return await trying.run([_told_by_replays(seen())]), len(engine.received)


async def test_who_is_told_by_replays_alone_does_not_join():
    with pytest.raises(JoinRefused) as raised:
        await _tried([0])
    assert raised.value.finding.code == "events_not_live"
    assert raised.value.finding.detail.startswith("tcp://127.0.0.1:")


async def test_who_may_do_without_events_is_not_followed_by_replays_alone():
    joined, _ = await _tried([0], allow_no_events=True)
    assert joined.info.is_cache_believed
    assert joined.places == ()


@pytest.mark.parametrize(("batches", "prompts"), [([1], 2), ([0, 0, 1], 3)])
async def test_a_first_batch_that_went_out_too_early_is_followed_by_another(batches, prompts):
    joined, n = await _tried(batches)
    assert n == prompts
    assert not joined.info.is_cache_believed
    assert len(joined.places) == 1
