"""Which dialect an engine speaks, by what it answers before anything is known of it. Pure."""

from typing import Final

from radixroute.worker.companions.dialects import sglang_facts, vllm_facts
from radixroute.worker.companions.dialects.common.models import MODELS, models_of
from radixroute.worker.companions.dialects.dialect import Answer, Answers, Ask, Dialect
from radixroute.worker.companions.dialects.openai import OpenAiDialect
from radixroute.worker.companions.dialects.sglang import SglangDialect
from radixroute.worker.companions.dialects.vllm import VllmDialect

AUTO: Final = "auto"
FIRST: Final = Ask("GET", MODELS)  # no server of these kinds is without
REST: Final = tuple(
    Ask("GET", path) for path in (vllm_facts.METRICS, sglang_facts.INFO, sglang_facts.OLD_INFO)
)


def dialect_named(name: str, secret: str) -> Dialect:
    """`name`: of `CompanionSettings.dialect`; of `AUTO` one until more is known."""
    if name == "openai":
        return OpenAiDialect()
    return SglangDialect(secret) if name == "sglang" else VllmDialect(secret)


def dialect_of(answers: Answers, secret: str) -> Dialect:
    """Raises `JoinRefused` where it wants a key. Whoever says no more than the API is plain."""
    owners = {model.owned_by for model in models_of(answers.get(MODELS, Answer(0)))}
    if "sglang" in owners or sglang_facts.is_one(answers):
        return SglangDialect(secret)
    metrics = answers.get(vllm_facts.METRICS, Answer(0))
    if "vllm" in owners or (metrics.is_ok and vllm_facts.is_page(metrics.body)):
        return VllmDialect(secret)
    return OpenAiDialect()
