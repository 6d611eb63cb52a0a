"""Commands run against a scripted router, in a folder and an environment of their own."""

import os
import sys

import pytest
from typer.testing import CliRunner

from radixroute.cli.app import app
from tests.frontdoor.fake_router import Script, fake_router


@pytest.fixture(autouse=True)
def clean_room(tmp_path, monkeypatch):
    """No settings of whoever runs the tests, and no cluster of theirs."""
    for name in [one for one in os.environ if one.startswith("RADIXROUTE_")]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RADIXROUTE_CLUSTER_RUNTIME_DIR", str(tmp_path / "run"))


@pytest.fixture
def script():
    return Script()


@pytest.fixture
def router(script):
    with fake_router(script) as address:
        yield address


@pytest.fixture
def cli(monkeypatch):
    def run(*args, stdin=None, env=None):
        texts = [str(a) for a in args]
        monkeypatch.setattr(sys, "argv", ["radixroute", *texts])  # reports tell their command
        return CliRunner().invoke(app, texts, input=stdin, env=env)

    return run
