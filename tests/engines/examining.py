"""Examinations of fake engines, and how long they wait for what never comes."""

from typing import Any, Final

from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.companions.join.examination import Asks, Examination, examine
from radixroute.worker.companions.join.trying_out import PATIENCE, Patience
from radixroute.worker.companions.settings import CompanionSettings
from radixroute.worker.settings import WorkerSettings
from tests.engines.fake_engine import FakeEngine
from tests.worker.fakes import make_tokenizer

# Where nobody answers for what was missed; where no event comes; where neither does.
UNANSWERED: Final = Patience(replay_s=0.15)
UNHEARD: Final = Patience(heard_s=0.02)
ALONE: Final = Patience(replay_s=0.15, heard_s=0.02)


async def examined(
    engine: FakeEngine,
    *,
    asks: Asks = Asks.PROMPTS,
    tokenizer: Tokenizer | None = None,
    patience: Patience = PATIENCE,
    **settings: Any,
) -> Examination:
    """Of one that is started for it."""
    url = await engine.start()
    try:
        return await examine(
            CompanionSettings(start_timeout_s=0.1, **settings),
            url,
            WorkerSettings(),
            tokenizer=tokenizer or make_tokenizer(),
            asks=asks,
            patience=patience,
        )
    finally:
        await engine.kill()


def codes_of(examination: Examination) -> set[str]:
    return {one.code for one in examination.findings}
