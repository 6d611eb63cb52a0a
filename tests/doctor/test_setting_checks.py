"""What is found of settings and the files that they name, and what mends it."""

import pytest

from radixroute.doctor.table import diagnose
from tests.doctor.evidences import engine, fleet, look, router, statement
from tests.doctor.planted_settings import overstating, unusable


def test_long_requests_that_an_engine_refuses_are_told_with_the_setting_that_lets_them_in():
    refused = router(look(counters={"requests_refused_by_worker": 90}))
    evidence = overstating("companion.max_model_len", 100_000, seen=refused)
    found = {one.code: one for one in diagnose(evidence)}
    assert set(found) == {"max_model_len_overstated", "requests_fail"}
    assert "100,000, and the engine itself says 4,096" in found["max_model_len_overstated"].seen
    assert found["max_model_len_overstated"].fix.startswith("leave companion.max_model_len out")
    assert found["requests_fail"].fix.startswith("mend first what is found of companion.max_model")


@pytest.mark.parametrize(
    "evidence",
    [
        overstating("companion.max_model_len", 4096),
        overstating("companion.max_model_len", 1000),
        overstating("companion.kv_blocks", 4001),  # as its log counts them
        overstating("companion.kv_blocks", 64),
        fleet(  # it says neither
            engines=(engine(said=statement(max_model_len=0, kv_blocks=0)),),
            settings={"companion.max_model_len": 100_000, "companion.kv_blocks": 9000},
        ),
    ],
)
def test_settings_within_what_an_engine_says_are_well(evidence):
    assert diagnose(evidence) == ()


@pytest.mark.parametrize(
    ("problem", "begins"),
    [("/k: line 3 is no `name:key`", "mend line 3 of it"), ("/k: has no key", "write a file in")],
)
def test_what_mends_a_keys_file_names_the_line(problem, begins):
    (found,) = diagnose(unusable("router.keys_file", problem))
    assert found.fix.startswith(begins)
