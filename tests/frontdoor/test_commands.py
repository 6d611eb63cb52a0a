"""The command line against a scripted router: what it prints, where, and how it exits."""

import json
import os
import re
import subprocess
import sys

import grpc
import pytest

from radixroute import __version__
from radixroute.answer import RawText
from radixroute.cli.console import json_values
from radixroute.client import RouterClient
from radixroute.deploy.cluster import up_down
from radixroute.deploy.errors import ConfigError, NotRunning, StartError
from radixroute.deploy.process_tree import identify
from radixroute.deploy.state.state_file import ClusterState, runtime_dir, write_state
from radixroute.protos import radixroute_pb2 as pb
from tests.frontdoor.console_rows import rows_of
from tests.frontdoor.fake_router import REQUEST_ID

COMMANDS = (
    *("up", "down", "submit", "workers", "hits", "explain", "config", "warm", "events"),
    *("completion", "serve", "kv"),
)


def test_the_version_is_the_packages(cli):
    assert cli("--version").stdout == f"radixroute {__version__}\n"


def test_the_module_runs_as_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "radixroute", "--version"], capture_output=True, check=True
    )
    assert done.stdout.decode() == f"radixroute {__version__}\n"


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_shows_an_example(cli, command):
    result = cli(command, "--help")
    assert result.exit_code == 0
    assert re.search(
        rf"Example: .*radixroute.* {command}|Example: radixroute {command}", result.stdout
    )


def test_every_command_is_listed(cli):
    listed = cli("--help").stdout
    assert all(re.search(rf"\b{command}\b", listed) for command in COMMANDS)


def test_an_answer_goes_to_stdout_and_the_rest_to_stderr(cli, router):
    result = cli("submit", "hello", "--router", router)
    assert result.exit_code == 0
    assert result.stdout == "A [b]tree[/b] 🎉\n"
    assert re.search(
        r"worker-1 · 464 of 480 prompt tokens cached \(96\.7 %\) · TTFT \d+ ms · "
        rf"3 tokens in [\d.]+ s · 2 attempts · stop · request {REQUEST_ID}",
        result.stderr,
    )


def test_a_prompt_is_a_users_message_unless_it_is_raw(cli, router, script):
    cli("submit", "hello", "--router", router)
    cli("submit", "hello", "--raw", "--router", router)
    with RouterClient(router) as client:  # a string means the same there
        list(client.generate("hello"))
        list(client.generate(RawText("hello")))
    assert script.asked[2:] == script.asked[:2]
    assert script.asked[0].messages.messages[0] == pb.ChatMessage(role="user", content="hello")
    assert script.asked[1].text == "hello"


def test_the_footer_names_every_attempt_with_what_was_cached_there(cli, router, script):
    moved = pb.Usage(
        prompt_tokens=480,
        cached_tokens=464,
        output_tokens=3,
        attempts=3,
        worker_id="worker-2",
        by_attempt=[
            pb.AttemptUsage(worker_id="worker-0", cached_tokens=464),
            pb.AttemptUsage(worker_id="worker-1"),
            pb.AttemptUsage(worker_id="worker-2", cached_tokens=0),
        ],
    )
    last = pb.GenerateResponse()
    last.CopyFrom(script.answer[-1])
    last.usage.CopyFrom(moved)
    last.position = 0
    script.answer = (last,)
    footer = cli("submit", "hello", "--router", router).stderr
    assert (
        "attempt 1 on worker-0: 464 of 480 prompt tokens cached (96.7 %) \u00b7 "
        "attempt 2 on worker-1: lost before it said what was cached \u00b7 "
        "attempt 3 on worker-2: 0 of 480 prompt tokens cached (0.0 %) \u00b7"
    ) in footer
    assert "attempts" not in footer


def test_a_prompt_may_come_from_stdin(cli, router, script):
    cli("submit", "--raw", "--router", router, stdin="from a pipe")
    cli("submit", "-", "--raw", "--router", router, stdin="from a pipe")
    assert [one.text for one in script.asked] == ["from a pipe"] * 2


def test_a_conversation_may_come_from_a_file(cli, router, script, tmp_path):
    turns = [{"role": "system", "content": "é"}, {"role": "user", "content": "hi"}]
    (tmp_path / "chat.json").write_text(json.dumps(turns, ensure_ascii=False), encoding="utf-8")
    assert cli("submit", "--messages", "chat.json", "--router", router).exit_code == 0
    assert [one.content for one in script.asked[0].messages.messages] == ["é", "hi"]


def test_sampling_options_reach_the_router(cli, router, script):
    options = "--max-tokens 5 --min-tokens 1 --temperature 0 --top-p 0.5 --top-k 3 --seed 9"
    cli("submit", "x", *options.split(), "--stop", "a", "--stop", "b", "--router", router)
    assert script.asked[0].sampling == pb.SamplingParams(
        max_tokens=5, min_tokens=1, temperature=0, top_p=0.5, top_k=3, seed=9, stop=["a", "b"]
    )


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["submit", "  "], "prompt is empty"),
        (["submit", "x", "--top-k", "-1"], "--top-k is -1"),
        (["submit", "x", "--max-tokens", 2**32], "--max-tokens is 4294967296"),
        (["submit", "x", "--seed", 2**64], "--seed is 18446744073709551616"),
        (["submit", "x", "--messages", "nowhere.json"], "not both"),
        (["submit", "--messages", "nowhere.json"], "cannot read nowhere.json"),
        (["submit", "--messages", "bad.json"], "bad.json is not a conversation"),
        (["explain", "unknown"], "no such request"),
    ],
)
def test_what_the_user_must_change_is_one_line_and_exit_2(cli, router, tmp_path, args, says):
    (tmp_path / "bad.json").write_text('[{"role": "user"}]')
    result = cli(*args, "--router", router)
    assert result.exit_code == 2
    assert says in result.stderr
    assert result.stderr.startswith("radixroute: ")
    assert result.stderr.count("\n") == 1


def test_a_failure_is_exit_1(cli, router, script):
    script.refusal = (grpc.StatusCode.UNAVAILABLE, "no workers yet; try again (request 1)")
    result = cli("workers", "--router", router)
    assert (result.exit_code, "no workers yet; try again" in result.stderr) == (1, True)


def test_a_stream_that_just_stops_is_a_failure(cli, router, script):
    script.answer = script.answer[:1]
    result = cli("submit", "x", "--router", router)
    assert result.exit_code == 1
    assert "before the answer was complete" in result.stderr


def test_a_router_that_is_not_there_is_exit_1_with_what_to_do(cli):
    result = cli("hits", "--router", "127.0.0.1:1")
    assert result.exit_code == 1
    assert "127.0.0.1:1" in result.stderr
    assert "radixroute up" in result.stderr


def test_json_has_numbers_as_numbers(cli, router):
    hits = json.loads(cli("hits", "--json", "--router", router).stdout)
    assert hits["total"]["prompt_tokens"] == 400
    assert [one["hit_rate"] for one in hits["workers"]] == [0.25, None]
    workers = json.loads(cli("workers", "--json", "--router", router).stdout)["workers"]
    assert (workers[0]["kv_blocks_total"], workers[1]["deaths"]) == (1000, 1)
    explained = json.loads(cli("explain", REQUEST_ID, "--json", "--router", router).stdout)
    assert explained["attempts"][0]["candidates"][1]["terms"][1]["value"] == 2.0


def test_maps_of_the_wire_become_json_objects():
    info = pb.RouterInfoResponse(policy="radix", counters={"late_deltas": 2**60})
    shown = json_values(info)
    assert shown["counters"] == {"late_deltas": 2**60}
    assert shown["model"] == ""  # a field at its default is shown too


def test_the_router_is_taken_from_the_settings(cli, router):
    assert cli("hits", env={"RADIXROUTE_CLIENT_ROUTER": router}).exit_code == 0
    host, port = router.split(":")
    env = {"RADIXROUTE_ROUTER_HOST": host, "RADIXROUTE_ROUTER_PORT": port}
    assert cli("hits", env=env).exit_code == 0


def test_a_cluster_that_runs_here_is_found_without_being_named(cli, router, tmp_path):
    state = ClusterState("default", router, identify(os.getpid()))
    write_state(runtime_dir(str(tmp_path / "run")), state)
    assert cli("hits").exit_code == 0


def test_config_shows_values_with_their_sources(cli, tmp_path):
    (tmp_path / "radixroute.toml").write_text("[cluster]\nworkers = 5\n")
    env = {"RADIXROUTE_ROUTER_CLUSTER_SECRET": "hunter2"}
    result = cli("config", "--json", "--set", "worker.kv_memory=1GiB", env=env)
    shown = json.loads(result.stdout)
    assert shown["cluster.workers"] == {"value": 5, "source": "radixroute.toml"}
    assert shown["worker.kv_memory"] == {"value": 2**30, "source": "--set"}
    assert shown["router.cluster_secret"]["value"] == "********"
    assert shown["router.port"] == {"value": 50051, "source": "default"}


def test_config_as_a_table_never_shows_a_secret(cli):
    result = cli("config", env={"RADIXROUTE_WORKER_CLUSTER_SECRET": "hunter2"})
    assert "hunter2" not in result.stdout
    rows = rows_of(result.stdout)
    assert "worker.cluster_secret ******** RADIXROUTE_WORKER_CLUSTER_SECRET" in rows
    assert "cluster.address none default" in rows


def test_config_can_leave_out_defaults(cli):
    shown = json.loads(cli("config", "--changed", "--json").stdout)
    assert list(shown) == ["cluster.runtime_dir"]


def test_config_says_so_when_nothing_is_changed(cli, monkeypatch):
    monkeypatch.delenv("RADIXROUTE_CLUSTER_RUNTIME_DIR")
    assert cli("config", "--changed").stdout == "every setting is at its default\n"
    assert json.loads(cli("config", "--changed", "--json").stdout) == {}


def test_an_unknown_setting_is_exit_2_with_the_nearest_name(cli):
    result = cli("config", "--set", "router.polcy=radix")
    assert result.exit_code == 2
    assert "did you mean router.policy?" in result.stderr


@pytest.fixture
def daemons(monkeypatch):
    """What would be started and stopped; nothing is."""
    seen = {}

    def up(settings, progress):
        seen["up"] = settings
        progress("starting [2] workers")
        return ClusterState(settings.name, "127.0.0.1:50051", None)

    monkeypatch.setattr(up_down, "up", up)
    monkeypatch.setattr(up_down, "down", lambda settings, progress: seen.update(down=settings))
    return seen


def test_up_passes_flags_on_and_says_what_to_do_next(cli, daemons, tmp_path):
    (tmp_path / "model").mkdir()
    options = "--workers 3 --policy random --port 0 --http-port 0 --kv-memory 64MiB --name blue"
    result = cli(
        "up", "--model", "model", *options.split(), "--insecure-bind", "--set", "router.seed=4"
    )
    assert result.exit_code == 0, result.stderr
    settings = daemons["up"]
    assert (settings.workers, settings.name) == (3, "blue")
    assert (settings.router.policy, settings.router.port, settings.router.seed) == ("random", 0, 4)
    assert settings.router.http_port == 0
    assert settings.worker.kv_memory == 64 * 2**20
    assert settings.worker.insecure_bind
    assert settings.router.insecure_bind
    assert settings.worker.model == str(tmp_path / "model")  # the daemon runs elsewhere
    assert "starting [2] workers" in result.stderr
    assert "radixroute submit" in result.stdout


def test_up_offers_events_to_other_routers_only_when_told(cli, daemons, tmp_path):
    (tmp_path / "model").mkdir()
    assert cli("up", "--model", "model").exit_code == 0
    assert not daemons["up"].worker.events_compat
    assert cli("up", "--model", "model", "--events-compat").exit_code == 0
    assert daemons["up"].worker.events_compat
    assert not daemons["up"].worker.insecure_bind


def test_down_names_the_cluster(cli, daemons):
    assert cli("down", "--name", "blue").exit_code == 0
    assert daemons["down"].name == "blue"


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["up"], "no model"),
        (["up", "--model", "nowhere"], "nowhere does not exist; give a directory"),
        (["up", "--model", "./a/b"], "a/b does not exist; give a directory"),
        (["up", "--model", "HuggingFaceTB/SmolLM2-135M"], "hf download HuggingFaceTB/SmolLM2-135M"),
    ],
)
def test_up_without_a_model_starts_nothing(cli, daemons, args, says):
    result = cli(*args)
    assert result.exit_code == 2
    assert says in result.stderr
    assert daemons == {}


@pytest.mark.parametrize(
    ("error", "code"),
    [(NotRunning("nothing is up"), 1), (StartError("port in use"), 1), (ConfigError("bad"), 2)],
)
def test_what_deploy_says_is_passed_on(cli, monkeypatch, error, code):
    def fails(settings, progress):
        raise error

    monkeypatch.setattr(up_down, "down", fails)
    result = cli("down")
    assert result.exit_code == code
    assert result.stderr == f"radixroute: {error}\n"


def test_warm_makes_the_kernels_ready(cli):
    result = cli("warm")
    assert result.exit_code == 0
    assert "ready" in result.stdout


def test_policies_lists_every_policy_with_its_source(cli):
    listed = json.loads(cli("policies", "--json").stdout)
    assert "arXiv 2603.15202" in listed["lmetric"]
    assert all(text.strip() for text in listed.values())
    assert "uncached prompt tokens" in cli("policies", "lmetric").stdout
    table = cli("policies").stdout
    assert all(name in table for name in listed)
    for command in (("up",), ("submit",), ("replay", "run")):
        assert "lmetric" in cli(*command, "--help").stdout


def test_an_unknown_policy_names_the_known_ones(cli):
    result = cli("policies", "best")
    assert result.exit_code == 2
    assert "least_loaded" in result.stderr
