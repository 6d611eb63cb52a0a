"""The settings: file, then environment, then flags; unknown keys and wrong types say what to do."""

import subprocess
import sys
import textwrap
from enum import Enum

import pytest

from radixroute.config import Given, assignment, flag, load, router_address
from radixroute.config_values import WrongType, from_text, from_toml
from radixroute.errors import BadConfig


@pytest.fixture
def written(tmp_path):
    def write(text):
        path = tmp_path / "radixroute.toml"
        path.write_text(textwrap.dedent(text))
        return path

    return write


def values(config):
    return {one.key: one for one in config.settings()}


def test_without_anything_every_value_is_its_default():
    config = load(environ={})
    assert {one.source for one in config.settings()} == {"default"}
    assert config.cluster.router.port == 50051


def test_flags_win_over_the_environment_and_that_over_the_file(written):
    path = written("[router]\npolicy = 'random'\nport = 1\nhost = '127.0.0.2'")
    environ = {"RADIXROUTE_ROUTER_POLICY": "least_loaded", "RADIXROUTE_ROUTER_PORT": "2"}
    config = load(path=path, environ=environ, flags=[flag("router.port", 3, "--port")])
    shown = values(config)
    assert (shown["router.port"].value, shown["router.port"].source) == (3, "--port")
    assert shown["router.policy"].source == "RADIXROUTE_ROUTER_POLICY"
    assert config.cluster.router.policy == "least_loaded"
    assert shown["router.host"].source == str(path)
    assert shown["router.seed"].source == "default"


def test_the_file_is_found_here_or_where_the_environment_says(written, tmp_path):
    path = written("[cluster]\nworkers = 3")
    assert load(environ={}).cluster.workers == 3
    other = tmp_path / "other.toml"
    path.rename(other)
    assert load(environ={}).cluster.workers == 2
    assert load(environ={"RADIXROUTE_CONFIG": str(other)}).cluster.workers == 3


def test_every_section_reaches_its_own_record(written):
    path = written("""
        [cluster]
        num_gpus_per_worker = 1
        num_cpus = 8
        [worker]
        kv_memory = "1.5GiB"
        insecure_bind = true
        [router]
        suspect_after_s = 2
        [client]
        router = "example:1"
    """)
    config = load(path=path, environ={})
    assert config.cluster.num_gpus_per_worker == 1.0
    assert config.cluster.num_cpus == 8
    assert config.cluster.worker.kv_memory == 3 * 2**29
    assert config.cluster.worker.insecure_bind is True
    assert config.cluster.router.suspect_after_s == 2.0
    assert config.client.router == "example:1"


def test_every_field_of_every_record_can_be_set_from_text():
    config = load(environ={})
    for one in config.settings():
        text = "none" if one.value is None else str(one.value)
        text = ",".join(one.value) if isinstance(one.value, tuple) else text
        again = load(environ={}, flags=[assignment(f"{one.key}={text}")])
        assert values(again)[one.key].value == one.value, one.key
        assert values(again)[one.key].source == "--set"


def test_engines_are_a_list_in_the_file_and_commas_in_text(written):
    path = written("""
        [serve]
        engines = ["http://h:1", "blue=http://h:2"]
        [companion]
        model = "/m"
    """)
    two = ("http://h:1", "blue=http://h:2")
    assert load(path=path, environ={}).cluster.serve.engines == two
    assert load(path=path, environ={}).cluster.companion.model == "/m"
    environ = {"RADIXROUTE_SERVE_ENGINES": "http://h:1, blue=http://h:2"}
    assert load(environ=environ).cluster.serve.engines == two


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "[worker]\nkv_memroy = 1",
            r"unknown setting worker\.kv_memroy; did you mean worker\.kv_memory",
        ),
        ("[wroker]\nport = 1", "unknown section wroker; did you mean worker"),
        ("[zzz]\nport = 1", "known are cluster, worker, router, companion, serve, insight, client"),
        ("[cluster]\nworker = 1", "unknown setting cluster.worker; did you mean cluster.workers"),
        ("workers = 2", "outside a section"),
        ("[companion]\nallow_events = true", "did you mean companion.allow_no_events"),
        ("[companion]\ndialect = 'vlm'", r"companion\.dialect: 'vlm' is none"),
        ("[serve]\nengine = []", "did you mean serve.engines"),
        ("[serve]\nengines = 'http://h:1'", "takes a list"),
        ("[worker]\nport = '80'", r"worker\.port takes a whole number, not text"),
        ("[worker]\nport = 80.5", "whole number"),
        ("[worker]\nport = true", "whole number"),
        ("[router]\nsuspect_after_s = true", "takes a finite number"),
        ("[router]\nsuspect_after_s = nan", "finite"),
        ("[router]\ninsecure_bind = 1", "true or false"),
        ("[router]\npolicy = 1", "takes text"),
        ("[worker]\nkv_memory = '512 potatoes'", "512MiB"),
        ("[worker]\nblock_size = 0", r"\[worker\] worker\.block_size: 0 is too small"),
        ("[cluster]\nworkers = 0", r"\[cluster\] workers is 0"),
        ("[cluster\n", "not valid TOML"),
    ],
)
def test_a_bad_file_is_refused_by_file_key_and_cure(written, text, says):
    with pytest.raises(BadConfig, match=says):
        load(path=written(text), environ={})


def test_a_file_that_was_named_must_exist(tmp_path):
    with pytest.raises(BadConfig, match="cannot read"):
        load(path=tmp_path / "nowhere.toml", environ={})


@pytest.mark.parametrize(
    ("variable", "value", "says"),
    [
        ("RADIXROUTE_WORKER_KV_MEMROY", "1", "did you mean worker.kv_memory"),
        ("RADIXROUTE_PORT", "1", "unknown section port"),
        ("RADIXROUTE_WORKER_PORT", "eighty", "RADIXROUTE_WORKER_PORT: worker.port takes"),
    ],
)
def test_a_bad_variable_is_refused_by_name(variable, value, says):
    with pytest.raises(BadConfig, match=says):
        load(environ={variable: value})


def test_an_assignment_needs_a_value():
    with pytest.raises(BadConfig, match=r"section\.field=value"):
        assignment("worker.port")


def test_secrets_are_masked_where_they_are_shown():
    config = load(environ={"RADIXROUTE_ROUTER_CLUSTER_SECRET": "hunter2"})
    assert config.cluster.router.cluster_secret == "hunter2"
    secrets = [one for one in config.settings() if one.is_secret]
    assert {one.key for one in secrets} == {
        "worker.cluster_secret",
        "router.cluster_secret",
        "client.api_key",
    }
    assert values(config)["router.cluster_secret"].shown == "********"
    assert values(config)["worker.cluster_secret"].shown == ""  # not set: nothing to hide
    assert "hunter2" not in repr(config)


def test_a_secret_in_the_wrong_place_does_not_show_in_the_error():
    for given in (
        Given("router.cluster_secret", 5678, "here", is_text=False),
        Given("router.port", "5678x", "here"),
    ):
        with pytest.raises(BadConfig, match=f"here: {given.key} takes") as caught:
            load(environ={}, flags=[given])
        assert "5678" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("512MiB", 512 * 2**20),
        ("1 GB", 10**9),
        ("0.5KiB", 512),
        ("1234", 1234),
        ("7B", 7),
    ],
)
def test_sizes_are_read_with_their_unit(text, expected):
    assert from_text(text, int, "kv_memory") == expected
    assert from_toml(text, int, "max_message_bytes") == expected


def test_only_sizes_take_units():
    with pytest.raises(WrongType):
        from_text("512MiB", int, "port")


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


@pytest.mark.parametrize(
    ("text", "declared", "expected"),
    [
        ("blue", Colour, Colour.BLUE),
        ("a, b", tuple[str, ...], ("a", "b")),
        ("1,2", tuple[int, ...], (1, 2)),
        ("none", int | None, None),
        ("3", int | None, 3),
        ("none", str, "none"),
        ("Yes", bool, True),
        ("off", bool, False),
        ("1e3", float, 1000.0),
    ],
)
def test_fields_of_other_types_need_no_new_code(text, declared, expected):
    assert from_text(text, declared, "field") == expected


def test_what_may_be_none_may_be_none_in_the_file_too(tmp_path):
    path = tmp_path / "radixroute.toml"
    path.write_text('[router]\nmetrics_port = "none"\n')
    assert load(path=path, environ={}).cluster.router.metrics_port is None
    path.write_text('[router]\nport = "none"\n')
    with pytest.raises(BadConfig, match=r"router\.port takes a whole number"):
        load(path=path, environ={})


@pytest.mark.parametrize(
    ("text", "declared", "says"),
    [
        ("green", Colour, "one of red, blue"),
        ("maybe", bool, "true or false"),
        ("inf", float, "finite"),
        ("x", int | None, 'a whole number or "none"'),
    ],
)
def test_text_of_the_wrong_type_says_what_is_taken(text, declared, says):
    with pytest.raises(WrongType, match=says):
        from_text(text, declared, "field")


def test_lists_and_choices_are_taken_from_toml():
    assert from_toml(["a"], tuple[str, ...], "field") == ("a",)
    assert from_toml("red", Colour, "field") is Colour.RED


def test_a_client_of_a_router_on_all_interfaces_uses_loopback():
    def address(*given):
        return router_address(
            load(environ={}, flags=[flag(key, value, "x") for key, value in given])
        )

    insecure = ("router.insecure_bind", True)
    assert address(("router.host", "0.0.0.0"), insecure) == "127.0.0.1:50051"
    assert address(("router.host", "::1"), ("router.port", 7)) == "[::1]:7"
    assert address(("client.router", "there:1")) == "there:1"


def test_reading_settings_imports_nothing_heavy():
    banned = ("torch", "ray", "numba", "grpc", "transformers")
    code = f"import sys, radixroute.cli.app; print([m for m in {banned} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
