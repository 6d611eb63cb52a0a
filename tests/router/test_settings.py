"""Router settings: what can never work is refused before anything starts."""

from typing import Any

import pytest

from radixroute.router.errors import BadSetting
from radixroute.router.settings import RouterSettings

WRONG: dict[str, Any] = {
    "dead_after_s": 0,
    "max_waiting": 0,
    "port": 70_000,
    "block_size": -1,
    "index_bytes": 1,
    "suspect_after_s": 9.0,
    "reconnect_min_s": 5.0,
}


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_cannot_work_is_refused_by_name(name):
    with pytest.raises(BadSetting, match=rf"router\.{name}"):
        RouterSettings(**{name: WRONG[name]})


def test_the_secret_is_not_in_the_repr():
    assert "hush" not in repr(RouterSettings(cluster_secret="hush"))
