"""`doctor` as it is typed: findings on a terminal and as JSON, and its exit codes."""

import asyncio
import json
import subprocess
import sys
import threading
from contextlib import contextmanager

import pytest

from radixroute import __version__
from radixroute.protos import radixroute_pb2 as pb
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_vllm import FakeVllm
from tests.worker.fakes import make_tokenizer


@pytest.fixture
def well(script):
    """A router whose workers are well. Its log is empty."""
    workers = [
        pb.WorkerStatus(
            worker_id=name, state="live", stream_state="live", kv_blocks_total=9, indexed_blocks=1
        )
        for name in ("a", "b")
    ]
    script.workers = pb.ListWorkersResponse(workers=workers)
    script.hits = pb.HitRatesResponse()
    script.logs = [pb.RequestLogResponse(log_id="x")]
    script.info = pb.RouterInfoResponse(version=__version__, policy="radix")
    return script


@contextmanager
def engine(tmp_path, kind=FakeVllm, **changes):
    """An engine in a loop of its own, and the folder with its tokenizer: URL and folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in make_tokenizer().files().items():
        (folder / name).write_bytes(content)
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    def run(coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, loop).result(30)

    async def made():
        one = kind(**changes)
        return one, await one.start()

    one, url = run(made())
    try:
        yield url, folder
    finally:
        run(one.kill())
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


def test_nothing_found_is_said_with_what_was_looked_at(cli, router, well):
    result = cli("doctor", "--router", router, "--seconds", 0)
    assert result.exit_code == 0, result.output
    assert "nothing found in" in result.stdout
    assert "with 2 workers" in result.stdout
    as_json = json.loads(cli("doctor", "--router", router, "--seconds", 0, "--json").stdout)
    assert as_json["findings"] == []
    assert as_json["looked_at"] == {
        "router": router,
        "workers": ["a", "b"],
        "engines": [],
        "believed": [],
        "roots": [],
    }


def test_a_finding_has_its_code_what_was_seen_why_it_matters_and_the_flag(cli, router, well):
    well.workers.workers[1].audit = "drifted"
    well.workers.workers[1].audit_reason = "told 4 [blocks]"
    result = cli("doctor", "--router", router, "--seconds", 0)
    assert result.exit_code == 1
    assert "error audit_drifted b: its cache counts for nothing" in result.stdout
    assert "told 4 [blocks]" in result.stdout
    assert "  why: " in result.stdout
    assert "  fix: " in result.stdout
    found = json.loads(cli("doctor", "--router", router, "--seconds", 0, "--json").stdout)
    assert [set(one) for one in found["findings"]] == [
        {"code", "level", "where", "seen", "why", "fix"}
    ]


def test_why_and_fix_are_said_once_for_what_is_alike(cli, router, well):
    for one in well.workers.workers:
        one.state = "suspect"
    out = cli("doctor", "--router", router, "--seconds", 0).stdout
    assert out.count("warning worker_suspect") == 2
    assert out.count("  fix: ") == 1


def test_in_a_pipe_no_line_is_cut(router, well):
    """Of eighty columns a flag, a path or a code would go on in the next line."""
    reason = f"told 4 of /a/path{'/that/goes/on' * 30}"
    well.workers.workers[1].audit = "drifted"
    well.workers.workers[1].audit_reason = reason
    command = [sys.executable, "-m", "radixroute", "doctor", "--router", router, "--seconds", "0"]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["error", "why:", "fix:", "1"]
    assert lines[0].endswith(reason)


def test_what_is_known_can_be_left_out(cli, router, well):
    well.workers.workers[0].state = "suspect"
    given = ("doctor", "--router", router, "--seconds", 0)
    assert cli(*given).exit_code == 1
    assert cli(*given, "--ignore", "worker_suspect").exit_code == 0
    result = cli(*given, "--ignore", "nonsense")
    assert result.exit_code == 2
    assert "no such code" in result.stderr


def test_without_a_router_it_cannot_look_and_says_so(cli):
    result = cli("doctor", "--router", "127.0.0.1:9", "--seconds", 0)
    assert result.exit_code in (1, 2)  # 1: a port that a router would take is not free here
    assert "no router answers at 127.0.0.1:9" in result.stderr
    free = {"RADIXROUTE_ROUTER_PORT": "0", "RADIXROUTE_ROUTER_HTTP_PORT": "0"}
    assert cli("doctor", "--router", "127.0.0.1:9", env=free).exit_code == 2
    named = cli("doctor", "--name", "blue", env=free)
    assert named.exit_code == 2
    assert "no cluster 'blue' is up" in named.stderr


def test_what_is_no_address_is_refused(cli):
    assert cli("doctor", "--router", "nonsense").exit_code == 2
    result = cli("doctor", "--engine", "ftp://x")
    assert result.exit_code == 2
    assert "http://HOST:PORT" in result.stderr


def test_an_engine_that_is_well_is_examined_by_its_url(cli, tmp_path):
    with engine(tmp_path) as (url, folder):
        result = cli("doctor", "--engine", f"{url}/v1/", "--tokenizer", folder)
        assert result.exit_code == 0, result.output
        assert "nothing found in 1 engine" in result.stdout
        assert "each engine is asked a few prompts" in result.stderr


def test_a_plain_server_is_well_and_said_to_be_believed(cli, tmp_path):
    with engine(tmp_path, FakeOpenAi, owner="vllm") as (url, folder):
        given = ("doctor", "--engine", url, "--tokenizer", folder, "--dialect", "openai")
        result = cli(*given)
        assert result.exit_code == 0, result.output
        assert f"{url}: its cache is believed" in result.stdout
        assert json.loads(cli(*given, "--json").stdout)["looked_at"]["believed"] == [url]
        assert cli(*given[:-1], "nonsense").exit_code == 2


def test_an_engine_that_lacks_something_is_told_with_the_options_of_serve(cli, tmp_path):
    with engine(tmp_path, has_details=False, buffer_steps=5) as (url, folder):
        result = cli("doctor", "--engine", url, "--tokenizer", folder, "--json")
    assert result.exit_code == 1
    found = {one["code"]: one for one in json.loads(result.stdout)["findings"]}
    assert set(found) == {"cached_tokens", "replay_buffer_small"}
    assert "--allow-no-cached-tokens" in found["cached_tokens"]["fix"]
    assert "buffer_steps" in found["replay_buffer_small"]["fix"]


class Elsewhere(FakeVllm):
    """The same model, as it seems, of another folder."""

    def __init__(self, **given):
        super().__init__(**given)
        self.root = "/models/other"


def test_two_folders_of_one_name_whose_answers_are_alike_are_said_and_are_no_finding(cli, tmp_path):
    (tmp_path / "other").mkdir()
    with (
        engine(tmp_path) as (one, folder),
        engine(tmp_path / "other", Elsewhere) as (other, _),
    ):
        given = ("doctor", "--engine", one, "--engine", other, "--tokenizer", folder)
        result = cli(*given)
        assert result.exit_code == 0, result.output
        said = f"{other}: its model is of /models/other, that of {one} of /models/"
        assert said in " ".join(result.stdout.split())
        (as_json,) = json.loads(cli(*given, "--json").stdout)["looked_at"]["roots"]
        assert as_json.startswith(said)


def test_a_length_that_settings_promise_of_an_engine_is_told_before_any_request(cli, tmp_path):
    with engine(tmp_path, max_model_len=512) as (url, folder):
        given = ("doctor", "--engine", url, "--tokenizer", folder, "--json")
        for longest, codes in (("513", ["max_model_len_overstated"]), ("512", [])):
            result = cli(*given, env={"RADIXROUTE_COMPANION_MAX_MODEL_LEN": longest})
            assert [one["code"] for one in json.loads(result.stdout)["findings"]] == codes
