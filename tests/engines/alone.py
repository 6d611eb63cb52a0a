"""One fake engine that is known as a join knows it, without a worker."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from radixroute.worker.companions.http.client import EngineHttp
from radixroute.worker.companions.join.joined import Joined
from radixroute.worker.companions.join.joining import Joining
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings
from tests.engines.fake_engine import FakeEngine
from tests.worker.fakes import make_tokenizer


@asynccontextmanager
async def known(engine: FakeEngine) -> AsyncIterator[tuple[EngineHttp, Joined]]:
    """It runs until the block ends."""
    url = await engine.start()
    tokenizer = make_tokenizer()
    joining = Joining(CompanionSettings(start_timeout_s=0.1), url, WorkerSettings(), tokenizer)
    http = joining.http()
    try:
        await joining.await_engine(http)
        yield http, joining.joined(await joining.statement(http), tokenizer)
    finally:
        http.close()
        await engine.kill()
