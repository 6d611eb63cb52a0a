"""Which router a command talks to: every client command finds a cluster by its name."""

import os

import pytest

from radixroute.deploy.cluster import up_down
from radixroute.deploy.errors import AlreadyRunning
from radixroute.deploy.process_tree import identify
from radixroute.deploy.settings import ClusterSettings
from radixroute.deploy.state.state_file import ClusterState, runtime_dir, write_state
from radixroute.protos import radixroute_pb2 as pb
from tests.frontdoor.fake_router import REQUEST_ID

CLIENT_COMMANDS = {
    "submit": ("submit", "hello"),
    "workers": ("workers",),
    "hits": ("hits",),
    "explain": ("explain", REQUEST_ID),
    "capture": ("replay", "capture", "-o", "t.jsonl"),
    "record": ("events", "record", "r.rrev"),
}


@pytest.fixture
def running(tmp_path):
    """Writes down a cluster as its daemon would."""

    def write(name, address):
        write_state(runtime_dir(str(tmp_path / "run")), ClusterState(name, address, _self()))

    return write


def _self():
    return identify(os.getpid())


@pytest.mark.parametrize("command", ["submit", "workers", "hits", "explain", "capture"])
def test_every_client_command_takes_a_clusters_name(cli, router, script, running, command):
    script.logs = [pb.RequestLogResponse(log_id="l")]
    running("default", "127.0.0.1:1")  # nobody's: it must not be asked
    running("blue", router)
    result = cli(*CLIENT_COMMANDS[command], "--name", "blue")
    if command == "capture":
        assert "no request has ended" in result.stderr
    else:
        assert result.exit_code == 0, result.stderr
    by_router = cli(*CLIENT_COMMANDS[command], "--name", "blue", "--router", router)
    assert by_router.exit_code == 2
    assert "--router or --name; not both" in by_router.stderr


@pytest.mark.parametrize("command", CLIENT_COMMANDS)
def test_a_named_cluster_that_is_not_up_is_an_error_and_no_other_is_asked(
    cli, router, running, command
):
    running("default", router)
    result = cli(
        *CLIENT_COMMANDS[command], "--name", "green", env={"RADIXROUTE_CLIENT_ROUTER": router}
    )
    assert result.exit_code == 1
    assert "no cluster 'green' is up on this machine" in result.stderr
    assert "radixroute up --name green" in result.stderr


def test_a_live_replay_takes_a_name_too(cli, running, tmp_path):
    (tmp_path / "t.csv").write_text("x")
    result = cli("replay", "t.csv", "--live", "green")
    assert result.exit_code == 1
    assert "no cluster 'green' is up" in result.stderr
    assert "is not HOST:PORT" in cli("replay", "t.csv", "--live", "a b:c").stderr


@pytest.mark.parametrize(
    ("name", "says"),
    [("default", "`radixroute down` ends it"), ("blue", "`radixroute down --name blue` ends it")],
)
def test_a_second_up_says_how_to_end_that_one_and_how_to_start_another(
    running, tmp_path, name, says
):
    running(name, "127.0.0.1:41000")
    settings = ClusterSettings(name=name, runtime_dir=str(tmp_path / "run"))
    with pytest.raises(AlreadyRunning) as raised:
        up_down.up(settings, print)
    assert says in str(raised.value)
    assert "`radixroute up --name OTHER --port 0 --http-port 0` starts another" in str(raised.value)
