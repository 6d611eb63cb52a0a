"""What docs/usage.md and README.md tell to type works as it stands there, but for the port."""

import asyncio
import re
import sys
from pathlib import Path

from tests.router.http.wire import chatting

ROOT = Path(__file__).resolve().parents[3]
USAGE = (ROOT / "docs" / "usage.md").read_text()
SECTION = USAGE.partition("## From OpenAI clients\n")[2].partition("\n## ")[0]
README = (ROOT / "README.md").read_text()


def block(text: str, language: str) -> str:
    found: list[str] = re.findall(rf"```{language}\n(.*?)```", text, re.S)
    return next(one for one in found if ":8000" in one)


async def run(*command: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 0, err.decode()
    return out.decode()


async def test_curl_gets_answers():
    async with chatting() as service:
        script = block(SECTION, "bash").replace("127.0.0.1:8000", str(service.http_address))
        told = await run("bash", "-ec", script)
        assert '"object":"chat.completion"' in told
        assert "data: [DONE]" in told
        assert '"object":"list"' in told
        assert "error" not in told


async def test_the_official_client_gets_answers():
    async with chatting() as service:
        script = block(SECTION, "python").replace("127.0.0.1:8000", str(service.http_address))
        told = await run(sys.executable, "-c", script)
        assert re.search(r"[1-9]\d* prompt tokens were cached", told)


async def test_the_front_page_shows_a_call_that_works():
    async with chatting() as service:
        script = block(README, "bash").replace("127.0.0.1:8000", str(service.http_address))
        assert '"object":"chat.completion"' in await run("bash", "-ec", script)
