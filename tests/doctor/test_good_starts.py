"""Fifty fleets that are well, started and asked: not one false alarm."""

from pathlib import Path

import pytest

from radixroute.doctor.table import diagnose
from tests.doctor.starts import EXAMPLES, Start, drawn, looked_at

MORE = tuple(range(50 - len(EXAMPLES)))


async def assert_well(start: Start, folder: Path) -> None:
    gathered = await looked_at(start, folder)
    assert gathered.not_seen == ()
    seen = gathered.evidence.router
    assert seen is not None
    assert len(seen.live) == len(start.engines)
    assert len(seen.log) == start.requests
    assert [(one.code, one.where, one.seen) for one in diagnose(gathered.evidence)] == []


@pytest.mark.parametrize("start", EXAMPLES, ids=lambda start: "+".join(start.engines))
async def test_a_good_start_has_no_finding(start, tmp_path):
    await assert_well(start, tmp_path)


@pytest.mark.deep
@pytest.mark.parametrize("number", MORE)
async def test_no_good_start_has_a_finding(number, tmp_path):
    await assert_well(drawn(number), tmp_path)
