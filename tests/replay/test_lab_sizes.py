"""Sizes that a lab leaves to the trace: a default that fits, and memory said in either way."""

import pytest

from radixroute.replay.errors import InvalidShape
from radixroute.replay.fleet.shape import blocks_for, engine_block_size
from radixroute.replay.lab import LabSettings, replay_all
from tests.replay.traces import trace_of


@pytest.mark.parametrize(
    ("of_trace", "of_engine"),
    [(512, 64), (64, 64), (128, 64), (16, 16), (48, 48), (100, 50), (7, 7), (97, 97), (1, 1)],
)
def test_every_trace_has_a_block_that_divides_its_own(of_trace, of_engine):
    assert engine_block_size(of_trace) == of_engine
    trace = trace_of([(0, 3 * of_trace, 2, [1, 2, 3])], block_size=of_trace)
    settings = LabSettings(("random",), workers=(1,)).sized_for(trace)
    assert settings.block_size == of_engine
    assert settings.kv_blocks == (1 << 20) // of_engine
    assert len(replay_all(trace, LabSettings(("random",), workers=(1,))).runs) == 1


def test_memory_is_said_in_blocks_or_in_tokens_and_is_then_both():
    trace = trace_of([(0, 40, 2, [1, 2, 3])], block_size=16)
    by_tokens = LabSettings(kv_tokens=1600).sized_for(trace)
    by_blocks = LabSettings(kv_blocks=100).sized_for(trace)
    assert by_tokens == by_blocks
    assert by_tokens.digest == by_blocks.digest
    assert (by_blocks.kv_blocks, by_blocks.kv_tokens) == (100, 1600)
    assert LabSettings(block_size=8, kv_blocks=100).sized_for(trace).kv_tokens == 800
    assert blocks_for(1615, 16) == 100
    with pytest.raises(InvalidShape, match="15 tokens holds not one block of 16"):
        LabSettings(kv_tokens=15).sized_for(trace)
