"""Actors that are processes of `serve`: what they lay down on the machine."""

import stat
from typing import Any

import pytest

from radixroute.deploy.errors import ConfigError
from radixroute.deploy.serving.engines import engines_of
from radixroute.deploy.serving.process_actors import CompanionSpawner
from radixroute.deploy.settings import ClusterSettings


class NoLinks:
    def of(self, place: int) -> None:
        return None


def spawner(folder) -> CompanionSpawner:
    links: Any = NoLinks()
    (engine,) = engines_of(["http://h:1"])
    settings = ClusterSettings(runtime_dir=str(folder))
    return CompanionSpawner(settings, engine, 0, links, lambda *_: None)


def test_the_folder_of_sessions_lies_in_one_that_is_private_though_it_is_the_first_there(tmp_path):
    """A worker makes its own with all above it; `up` then refused one that others can read."""
    spawner(tmp_path / "run").spawn(1)
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700


def test_nor_does_it_lie_in_one_that_others_can_read(tmp_path):
    (tmp_path / "run").mkdir(mode=0o755)
    with pytest.raises(ConfigError, match="mode 0700"):
        spawner(tmp_path / "run").spawn(1)
