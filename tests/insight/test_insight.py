"""Who looks on a router is told all, in order, and may fail; where nobody does nothing is kept."""

import pytest

from radixroute.insight.insight import Insight, observed_by
from radixroute.insight.settings import InsightSettings
from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.core.logs.tape import Closed, Opened, Record, Sent, Tape
from radixroute.router.service import RouterService
from tests.router.clusters import PROMPT, all_live, cluster, collect, request, settings, until
from tests.router.fakes import FakeWorker
from tests.router.tapes import check_grammar


class Keeper:
    """Keeps all that it is told; fails once it was told so."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.fails = self.is_stopped = False
        self.parts = ()

    def read(self, records, now_ns) -> None:
        if self.fails:
            raise ValueError("a fault of ours")
        self.records += records

    async def stop(self) -> None:
        self.is_stopped = True


class KeptBy:
    """Makes the observer."""

    def __init__(self, keeper: Keeper) -> None:
        self._keeper = keeper

    def warm(self) -> None:
        """There is nothing to be loaded."""

    def __call__(self, observed) -> Insight:
        return Insight(observed.tape, (self._keeper,))


async def one_request(keeper: Keeper) -> None:
    """By a router with one worker, on which the keeper looks; both have ended."""
    async with cluster(FakeWorker("a"), observed_by=KeptBy(keeper)) as (service, router, _inspect):
        await until(lambda: all_live(service))
        answered = await collect(router.Generate(request(PROMPT, 4)))
        assert answered[-1].finish_reason == pb.FINISH_REASON_LENGTH


async def test_a_reader_is_told_all_that_the_router_did():
    keeper = Keeper()
    await one_request(keeper)
    told = check_grammar(keeper.records)
    assert told.outcomes == {"length": 1}
    kinds = [type(record) for record in keeper.records]
    assert kinds.index(Opened) < kinds.index(Sent) < kinds.index(Closed)
    assert keeper.is_stopped


async def test_a_reader_that_fails_is_taken_off_and_the_router_goes_on(caplog):
    keeper = Keeper()
    keeper.fails = True
    await one_request(keeper)
    assert "looks on no more" in caplog.text
    assert keeper.records == []


def test_a_full_tape_counts_what_it_leaves_out():
    tape = Tape(max_records=2)
    for n in range(5):
        tape.add(Closed(None, "stop", None, None, n))  # type: ignore[arg-type]
    assert [record.now_ns for record in tape.take()] == [0, 1]
    assert tape.n_dropped == 3
    assert tape.take() == []


def test_nobody_looks_on_where_that_is_switched_off():
    assert observed_by(InsightSettings(enabled=False)) is None
    assert observed_by(InsightSettings()) is not None


@pytest.mark.parametrize("enabled", [True, False])
async def test_a_router_without_observer_has_no_tape(enabled):
    service = RouterService(settings(), observed_by(InsightSettings(enabled=enabled)))
    await service.start()
    try:
        assert (service.runtime.core._state.tape is not None) is enabled
    finally:
        await service.stop()
