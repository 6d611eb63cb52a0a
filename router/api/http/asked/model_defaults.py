"""Model defaults: the sampling that a model's makers put beside its weights, for who says nothing.

Other servers of this API apply `generation_config.json`, so whoever came from one gets the answers
it had. Owns what was read of one tokenizer's files.
"""

import json
import math
from typing import Any

from radixroute.request.tokenizer import GENERATION_FILE, Tokenizer
from radixroute.router.api.http.asked.openai_request import Defaults
from radixroute.router.links.handshake import Handshake

NONE = Defaults()


class ModelDefaults:
    """Of whatever a router serves."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake
        self._of: Tokenizer | None = None
        self._read = NONE

    def __call__(self) -> Defaults:
        served = self._handshake.served
        if served is not None and served.tokenizer is not self._of:
            self._of = served.tokenizer
            self._read = read_defaults(served.tokenizer.files().get(GENERATION_FILE, b"{}"))
        return self._read


def read_defaults(data: bytes) -> Defaults:
    """What is missing or makes no sense is no default."""
    try:
        stated = json.loads(data)
    except (ValueError, RecursionError):
        return NONE
    if not isinstance(stated, dict):
        return NONE
    top_k = _number(stated, "top_k", 0, 1 << 31)
    return Defaults(
        temperature=_number(stated, "temperature", 0.0, 100.0),
        top_p=_number(stated, "top_p", 1e-6, 1.0),
        top_k=None if top_k is None else int(top_k),
        min_p=_number(stated, "min_p", 0.0, 1.0),
        repetition_penalty=_number(stated, "repetition_penalty", 1e-6, 2.0),
    )


def _number(stated: dict[str, Any], name: str, low: float, high: float) -> float | None:
    value = stated.get(name)
    if not isinstance(value, int | float) or isinstance(value, bool):
        return None
    return value if math.isfinite(value) and low <= value <= high else None
