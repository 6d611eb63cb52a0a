"""Every example runs: those that ask a router against a real one with fake workers behind it."""

import asyncio
import json
import re
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from radixroute.request.tokenizer import Tokenizer
from tests.request.samples import CONFIG, byte_level_json
from tests.router.clusters import all_live, cluster, until
from tests.router.fakes import FakeWorker

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = sorted((ROOT / "examples").glob("*.py"))
MAX_LINES = 40
_CACHED = re.compile(r"(\d+) of (\d+)")


class ChattyWorker(FakeWorker):
    """Takes chats, and prompts as long as the examples'."""

    async def start(self):
        spec = await super().start()
        files = {"tokenizer.json": byte_level_json(), "tokenizer_config.json": _CONFIG}
        self.tokenizer = Tokenizer.from_files(files)
        return spec

    async def GetInfo(self, request, context):
        info = await super().GetInfo(request, context)
        info.max_model_len = 16384
        return info


_CONFIG = json.dumps(CONFIG).encode()


@asynccontextmanager
async def router():
    """Yields host:port."""
    async with cluster(ChattyWorker("a"), ChattyWorker("b")) as (service, _, _inspect):
        await until(lambda: all_live(service))
        await until(lambda: all(m.is_fresh for m in service.runtime.core.snapshot().workers))
        yield str(service.address)


async def run(*arguments, cwd=ROOT):
    """What a Python program printed; it must end well and complain of nothing."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *map(str, arguments),
        cwd=cwd,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    assert err == b""
    return out.decode()


def cached(text):
    """(cached, prompt tokens) of each answer, in order."""
    return [(int(a), int(b)) for a, b in _CACHED.findall(text)]


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_no_example_is_longer_than_a_screen(path):
    lines = path.read_text().count("\n")
    assert lines <= MAX_LINES, f"{path.name} has {lines} lines"


def test_every_example_is_run_here():
    ours = Path(__file__).read_text()
    assert [path.name for path in EXAMPLES if f'"examples/{path.name}"' not in ours] == []


async def test_a_prompt_is_routed_and_cached_for_the_second_time():
    async with router() as address:
        prompt = "once upon a time there was a router"
        first = await run("examples/route_one_prompt.py", prompt, address)
        second = await run("examples/route_one_prompt.py", prompt, address)
    assert first.startswith(prompt)
    assert cached(first)[0][0] == 0 < cached(second)[0][0]


async def test_a_chat_finds_its_own_turns_again():
    async with router() as address:
        told = await run("examples/stream_a_chat.py", address)
    (first, first_prompt), (second, second_prompt) = cached(told)
    assert first == 0 < second < first_prompt + 4 < second_prompt


async def test_the_decision_is_told_term_by_term():
    async with router() as address:
        told = await run("examples/ask_why.py", address)
    hit, prompt = cached(told)[0]
    assert hit > 0.9 * prompt
    assert re.search(r"^  [ab] holds 0 blocks: \d+ ms \(.*prefill \d+", told, re.M)
    assert re.search(r"^[ab]: It costs .* ms less than [ab], above all prefill", told, re.M)


async def test_a_trace_is_replayed_under_three_policies(tmp_path):
    trace = tmp_path / "chats.jsonl"
    synth = ("replay", "synth", "chats", "-o", trace, "--requests", 200, "--seed", 1)
    await run("-m", "radixroute", *synth)
    told = await run("examples/replay_a_trace.py", trace)
    reuse = {name: float(x) for name, x in re.findall(r"^(\w+): ([\d.]+)% of", told, re.M)}
    assert list(reuse) == ["round_robin", "least_loaded", "radix"]
    assert reuse["radix"] > reuse["round_robin"]
    assert "not_chosen" in told
    assert "'pooled_belady'" in told


async def test_the_readmes_client_runs_as_it_stands_there(tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    async with router() as address:
        program = tmp_path / "client.py"
        program.write_text(code.replace("127.0.0.1:50051", address))
        assert program.read_text() != code
        told = await run(program)
    assert re.search(r"^[ab] had 0 prompt tokens cached$", told, re.M)
