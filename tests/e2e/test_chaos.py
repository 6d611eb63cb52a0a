"""Chaos in a bounded form: processes killed under streams of the client library."""

import pytest

from bench.chaos.faults import Fault
from bench.chaos.load import LoadSettings
from bench.chaos.run import ChaosSettings, run
from tests.e2e.tiny_model import write_tiny_model

pytestmark = [pytest.mark.e2e, pytest.mark.torch]


@pytest.mark.timeout(400)
def test_streams_are_whole_after_an_engine_and_a_router_were_killed(tmp_path):
    kinds = (Fault.ENGINE, Fault.ROUTER)
    outcome = run(
        write_tiny_model(tmp_path / "tiny"),
        ChaosSettings(requests=20, kills=2, kinds=kinds, load=LoadSettings(prompts=5)),
        print,
    )
    assert set(outcome.kills) == set(kinds)
    assert outcome.requests >= 20
    assert outcome.resumes["by_clients"] > 0
    assert outcome.tally.is_sound, outcome.record


@pytest.mark.deep
@pytest.mark.timeout(1800)
def test_ten_faults_of_all_kinds(tmp_path):
    outcome = run(write_tiny_model(tmp_path / "tiny"), ChaosSettings(requests=100, kills=10), print)
    assert set(outcome.kills) == set(Fault)
    assert min(outcome.resumes["by_router"], outcome.resumes["by_clients"]) > 0
    assert outcome.tally.is_sound, outcome.record
