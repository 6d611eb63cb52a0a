"""`/v1/models`, which every one of these servers has. Pure."""

from typing import Final

import msgspec

from radixroute.worker.companions.dialects.dialect import Answer
from radixroute.worker.companions.join.findings import JoinRefused, finding

MODELS: Final = "/v1/models"


class Model(msgspec.Struct):
    """One that is served; of an adapter `parent` is the model below it."""

    id: str
    root: str | None = None
    parent: str | None = None
    max_model_len: int | None = None
    owned_by: str | None = None


class _Models(msgspec.Struct):
    data: list[Model]


def models_of(answer: Answer) -> list[Model]:
    """None: it named none. Raises `JoinRefused` where it wants a key."""
    if answer.status in (401, 403):
        raise JoinRefused(finding("key"))
    try:
        return msgspec.json.decode(answer.body, type=_Models).data if answer.is_ok else []
    except msgspec.MsgspecError:
        return []


def no_model(answer: Answer, kind: str) -> JoinRefused:
    """That it named none, to be raised; with the status where that is why."""
    detail = "" if answer.is_ok else f"{MODELS} answers {answer.status}"
    return JoinRefused(finding("models", detail, kind=kind))
