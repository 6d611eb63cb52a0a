"""Fields of a model's JSON files, read by name and type; anything else is an error that says so.

Owns no values. Raises `ModelError` with the file, the field and what it should be. A number that
JSON can hold and no model can have (NaN, a switch for a count, 10^30 layers) is refused like text.
Called by the families' readers.
"""

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from radixroute.worker.errors import ModelError


class Fields:
    """One JSON object of one file."""

    def __init__(self, path: Path, raw: Mapping[str, Any]) -> None:
        self.path, self._raw = path, raw

    def get(self, name: str) -> Any:
        """As it stands; None where it is missing or null."""
        return self._raw.get(name)

    def count(
        self, name: str, *, default: int | None = None, least: int = 1, most: int = 2**24
    ) -> int:
        """A whole number; 16.7 million is beyond any size of a model."""
        value = self._found(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.refusal(name, f"a whole number from {least} to {most}")
        return value

    def positive(self, name: str, *, default: float | None = None) -> float:
        value = self._found(name, default)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        # A whole number may be too large for a float.
        if not is_number or not 0 < value < 1e30 or not math.isfinite(value):
            raise self.refusal(name, "a number above 0")
        return float(value)

    def switch(self, name: str, *, default: bool = False) -> bool:
        value = self._found(name, default)
        if not isinstance(value, bool):
            raise self.refusal(name, "true or false")
        return value

    def must_be(self, name: str, only: Any, *, default: Any = None) -> None:
        """Raises unless it is the one value that a family computes; `default` where missing."""
        if (value := self._found(name, default)) != only:
            raise ModelError(f"{self.path}: {name} is {value!r:.60}; this engine runs {only!r}")

    def record(self, name: str) -> "Fields":
        """A JSON object inside; empty where it is missing."""
        value = self._found(name, {})
        if not isinstance(value, dict):
            raise self.refusal(name, "a JSON object")
        return Fields(self.path, value)

    def ids(self, name: str) -> tuple[int, ...] | None:
        """One token id or a list of them; None where it is missing."""
        value = self._raw.get(name)
        found = value if isinstance(value, list) else [] if value is None else [value]
        if any(isinstance(one, bool) or not isinstance(one, int) for one in found):
            raise self.refusal(name, "a token id or a list of them")
        return None if value is None else tuple(found)

    def texts(self) -> list[str]:
        """Every value, each of which must be text."""
        for name, value in self._raw.items():
            if not isinstance(value, str):
                raise self.refusal(name, "text")
        return list(self._raw.values())

    def refusal(self, name: str, wanted: str) -> ModelError:
        shown = repr(self._raw[name])[:60] if name in self._raw else "missing"
        return ModelError(f"{self.path}: {name} is {shown}, not {wanted}: fetch the model again")

    def _found(self, name: str, default: Any) -> Any:
        value = self._raw.get(name)
        return default if value is None else value


def read_fields(path: Path) -> Fields:
    """Raises `ModelError` for a file that is missing, torn or no JSON object."""
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path} is missing: point `model` at a complete model folder") from None
    # ValueError: no UTF-8, no JSON, or a number of 5,000 digits.
    except (OSError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read: fetch the model again") from error
    if not isinstance(raw, dict):
        raise ModelError(f"{path} is not a JSON object: fetch the model again")
    return Fields(path, raw)
