"""`radixroute serve` as its user runs it, before fake engines; what other commands see of it."""

import asyncio
import json
import os
import re
import signal
import sys
import tempfile
import urllib.request
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import openai
import pytest
import typer

from radixroute.cli.app import app
from radixroute.deploy.actors.own_engine import free_port
from radixroute.deploy.process_tree import descendants
from radixroute.deploy.serving.story import FLAGS
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.request.wire import pack_tokens
from tests.engines.fake_openai import FakeOpenAi
from tests.engines.fake_sglang import FakeSglang
from tests.engines.fake_vllm import FakeVllm
from tests.engines.fleets import assert_whole
from tests.worker.fakes import make_tokenizer

LIMIT_S = 60.0
PROMPT = list(range(1, 30))


@pytest.fixture
def folder(tmp_path):
    """The model's: a tokenizer and nothing else."""
    made = tmp_path / "model"
    made.mkdir()
    for name, content in make_tokenizer().files().items():
        (made / name).write_bytes(content)
    return made


@asynccontextmanager
async def engines(n, *, kinds=(FakeVllm,), **changes):
    made = [kind(**changes) for kind in kinds for _ in range(n)]
    urls = [await one.start() for one in made]
    try:
        yield made, urls
    finally:
        await asyncio.gather(*(one.kill() for one in made))


class Serve:
    """The command, running; what it says comes line by line."""

    def __init__(self, process):
        self.process = process
        self.lines = []

    async def says(self, *parts):
        async with asyncio.timeout(LIMIT_S):
            while True:
                line = await self._line()
                if all(part in line for part in parts):
                    return line

    async def _line(self):
        line = (await self.process.stderr.readline()).decode()
        assert line, f"it ended before that; it said {self.lines}"
        self.lines.append(line.strip())
        return line.strip()


@asynccontextmanager
async def serve(tmp_path, folder, *arguments):
    command = [sys.executable, "-m", "radixroute", "serve", "--port", "0", "--http-port", "0"]
    command += [*arguments]
    command += ["--tokenizer", str(folder), "--set", "router.metrics_port=none"]
    command += ["--set", "router.http_port=0"]
    environment = {**os.environ, "RADIXROUTE_CLUSTER_RUNTIME_DIR": str(tmp_path / "run")}
    process = await asyncio.create_subprocess_exec(
        *command, stderr=asyncio.subprocess.PIPE, env=environment
    )
    try:
        yield Serve(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def command(tmp_path, *arguments):
    environment = {**os.environ, "RADIXROUTE_CLUSTER_RUNTIME_DIR": str(tmp_path / "run")}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "radixroute", *arguments),
        stdout=asyncio.subprocess.PIPE,
        env=environment,
    )
    out, _ = await process.communicate()
    assert process.returncode == 0, arguments
    return out.decode()


def ask(prompt, n):
    sampling = pb.SamplingParams(max_tokens=n, temperature=0.0, ignore_eos=True)
    return pb.GenerateRequest(token_ids=pack_tokens(prompt), sampling=sampling)


def post(url, prompt):
    body = {"model": "fake-model", "prompt": prompt, "max_tokens": 4}
    asked = urllib.request.Request(
        url, json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(asked, timeout=LIMIT_S) as answer:
        return json.load(answer)


async def test_two_engines_by_url_answer_and_other_commands_find_them(tmp_path, folder):
    async with (
        engines(2) as (_, (a, b)),
        serve(tmp_path, folder, "--engine", a, "--engine", f"blue={b}") as one,
    ):
        address = (await one.says("router listens at")).rpartition(" ")[2]
        await one.says("serving with all 2 engines")
        told = "\n".join(one.lines)
        assert f"engine-0 joined: fake-model (vllm) at {a}, block size 4, 256 blocks" in told
        assert f"blue joined: fake-model (vllm) at {b}" in told
        async with grpc.aio.insecure_channel(address) as channel:
            router = rpc.RouterStub(channel)
            messages = [message async for message in router.Generate(ask(PROMPT, 12))]
        assert_whole(messages, PROMPT, 12)
        api = next(line for line in one.lines if "OpenAI API" in line).split()[-1]
        answered = await asyncio.to_thread(post, f"{api}/completions", PROMPT)
        assert answered["model"] == "fake-model"
        assert answered["usage"]["prompt_tokens"] == len(PROMPT)
        by_address = await command(tmp_path, "workers", "--json", "--router", address)
        assert {w["worker_id"]: w["state"] for w in json.loads(by_address)["workers"]} == {
            "engine-0": "live",
            "blue": "live",
        }
        hits = json.loads(await command(tmp_path, "hits", "--json"))  # found as `up` is
        assert hits["total"]["requests"] == 2
        await command(tmp_path, "down")
        async with asyncio.timeout(LIMIT_S):
            assert await one.process.wait() == 0


async def test_tls_all_through_with_what_certs_made_and_said(tmp_path, folder, monkeypatch):
    """Doors, and a companion in another process over TCP, for somebody who follows `certs`."""
    config = tmp_path / "radixroute.toml"
    config.write_text(await command(tmp_path, "certs", str(tmp_path / "certs")))
    monkeypatch.setenv("RADIXROUTE_CONFIG", str(config))
    ca, port = str(tmp_path / "certs" / "ca.pem"), free_port()
    over_tcp = ["--set", f"worker.session_port={port}"]
    async with (
        engines(1) as (_, (url,)),
        serve(tmp_path, folder, "--engine", url, *over_tcp) as one,
    ):
        await one.says("serving with 1 engine")
        api = next(line for line in one.lines if "OpenAI API" in line).split()[-1]
        assert api.startswith("https://")
        monkeypatch.setenv("SSL_CERT_FILE", ca)  # as the client's own documents say
        async with openai.AsyncOpenAI(base_url=api, api_key="unused") as client:
            answered: Any = await client.completions.create(
                model="fake-model", prompt=PROMPT, max_tokens=4
            )
        assert answered.usage.prompt_tokens == len(PROMPT)
        (worker,) = json.loads(await command(tmp_path, "workers", "--json"))["workers"]
        assert int(worker["indexed_blocks"]) > 0  # events came, too
        recording = str(tmp_path / "run.rrev")
        await command(tmp_path, "events", "record", recording, "--seconds", "0")
        assert "engine-0" in await command(tmp_path, "events", "replay", recording)
        for port_of_worker in (port, int(worker["address"].rpartition(":")[2])):
            reader, writer = await asyncio.open_connection("127.0.0.1", port_of_worker)
            writer.write(b"rr.sess1")
            assert not (await reader.read(8)).startswith(b"rr.sess1")
            writer.close()


@pytest.fixture
def short_path():
    """The path of a Unix socket may have 107 bytes; pytest's folders may leave no room for it."""
    with tempfile.TemporaryDirectory(prefix="rr-") as folder:
        yield Path(folder)


async def test_companions_take_sessions_where_only_their_user_comes(short_path, folder):
    async with engines(1) as (_, (url,)), serve(short_path, folder, "--engine", url) as one:
        address = (await one.says("router listens at")).rpartition(" ")[2]
        await one.says("serving with 1 engine")
        (socket,) = (short_path / "run" / "default-sessions").iterdir()
        assert socket.is_socket()
        async with grpc.aio.insecure_channel(address) as channel:
            router = rpc.RouterStub(channel)
            messages = [message async for message in router.Generate(ask(PROMPT, 12))]
        assert_whole(messages, PROMPT, 12)
        await command(short_path, "down")
        async with asyncio.timeout(LIMIT_S):
            await one.process.wait()
        assert not socket.exists()


async def test_an_openai_client_calls_tools_over_two_engines(tmp_path, folder):
    """What the door itself does not speak: the one that is left goes on when an engine is gone."""
    tool: Any = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}
    messages: Any = [{"role": "user", "content": "call it"}]
    async with (
        engines(2) as (made, (a, b)),
        serve(tmp_path, folder, "--engine", a, "--engine", b) as one,
    ):
        await one.says("serving with all 2 engines")
        api = next(line for line in one.lines if "OpenAI API" in line).split()[-1]
        async with openai.AsyncOpenAI(base_url=api, api_key="unused") as client:
            create = client.chat.completions.create
            asked: Any = {"model": "fake-model", "messages": messages, "tools": [tool]}
            whole: Any = await create(**asked)
            (call,) = whole.choices[0].message.tool_calls
            streamed = ""
            async for event in await create(**asked, stream=True):
                streamed += event.choices[0].delta.tool_calls[0].function.arguments
            assert streamed == " " + " ".join(call.function.arguments.split()[1:])
            bodies = [body for engine in made for body in engine.chats.bodies]
            assert [json.loads(body)["tools"] for body in bodies] == [[tool]] * 2
            victim = next(engine for engine in made if engine.chats.bodies)
            await victim.kill()
            again = await create(**asked)
            assert again.choices[0].finish_reason == "tool_calls"


async def test_three_kinds_of_engines_serve_one_fleet_and_are_named(tmp_path, folder):
    kinds = (FakeVllm, FakeSglang, FakeOpenAi)
    async with engines(1, kinds=kinds) as (_, urls):
        given = [part for url in urls for part in ("--engine", url)]
        shared = ["--set", "serve.engines_per_process=3"]
        async with serve(tmp_path, folder, *given, "--block-size", "4", *shared) as one:
            address = (await one.says("router listens at")).rpartition(" ")[2]
            await one.says("serving with all 3 engines")
            told = "\n".join(one.lines)
            for kind, url in zip(("vllm", "sglang", "openai"), urls, strict=True):
                assert f"joined: fake-model ({kind}) at {url}, block size 4" in told
            async with grpc.aio.insecure_channel(address) as channel:
                router = rpc.RouterStub(channel)
                sampling = pb.SamplingParams(max_tokens=4, temperature=0.0)
                asked = pb.GenerateRequest(token_ids=pack_tokens(PROMPT), sampling=sampling)
                messages = [message async for message in router.Generate(asked)]
            assert messages[-1].finish_reason
            listed = json.loads(await command(tmp_path, "workers", "--json"))["workers"]
            assert [w["audit"] for w in listed if w["worker_id"] == "engine-2"] == ["believed"]
            why = await command(tmp_path, "explain", messages[0].request_id)
            assert "the cache of engine-2" in why


async def test_a_companion_process_killed_under_streams_costs_no_token(tmp_path, folder):
    async with (
        engines(2, step_s=0.02) as (_, (a, b)),
        serve(tmp_path, folder, "--engine", a, "--engine", b) as one,
    ):
        address = (await one.says("router listens at")).rpartition(" ")[2]
        await one.says("serving with all 2 engines")
        async with grpc.aio.insecure_channel(address) as channel:
            router = rpc.RouterStub(channel)
            prompts = [[n, *PROMPT] for n in range(1, 9)]
            calls = [router.Generate(ask(prompt, 60)) for prompt in prompts]
            heads = [await call.read() for call in calls]
            assert {head.usage.worker_id for head in heads} == {"engine-0", "engine-1"}
            first, _second = sorted(
                descendants(one.process.pid), key=lambda process: process.started_ticks
            )
            first.send(signal.SIGKILL)
            tails = await asyncio.gather(*(rest_of(call) for call in calls))
        for prompt, head, tail in zip(prompts, heads, tails, strict=True):
            assert_whole([head, *tail], prompt, 60)
        await one.says("serving with all 2 engines")
        down = [line for line in one.lines if "is down" in line]
        assert len(down) == 1
        assert "signal 9" in down[0]


async def rest_of(call):
    messages = []
    while (message := await call.read()) is not grpc.aio.EOF:
        messages.append(message)
    return messages


async def test_a_refused_join_names_the_option_that_lets_it_in(tmp_path, folder):
    async with engines(1, has_details=False) as (_, (url,)):
        async with serve(tmp_path, folder, "--engine", url) as one:
            line = await one.says("engine-0 cannot join")
            assert "--enable-prompt-tokens-details" in line
            assert "--allow-no-cached-tokens" in line
            assert url in line
        async with serve(
            tmp_path, folder, "--engine", url, "--allow-no-cached-tokens", "--name", "again"
        ) as one:
            await one.says("serving with 1 engine")


async def test_what_cannot_be_an_engine_ends_the_command_at_once(tmp_path, folder):
    async with serve(tmp_path, folder, "--engine", "10.0.0.1:8000") as one:
        await one.says("is no URL of an engine")
        assert await one.process.wait() == 2


def test_every_option_that_a_refusal_may_name_is_one_of_the_command():
    group: Any = typer.main.get_command(app)
    options = {name for one in group.commands["serve"].params for name in one.opts}
    assert set(FLAGS.values()) <= options


def test_settings_within_longer_names_stay(tmp_path):
    from radixroute.deploy.serving.story import with_flags

    text = "set companion.allow_no_events or companion.block_size."
    assert with_flags(text) == "set --allow-no-events or --block-size."
    assert re.search("companion.models", with_flags("companion.models"))
