"""The shipped assistants: a system prompt of 500 or more tokens each, and what users ask them.

Owns reading `texts/*.json` and filling the blanks in a user's text. Never decides who asks what
when: that is for `chats`, the caller.
"""

import json
import random
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from radixroute.demo.errors import TornTexts

_BLANK = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True, slots=True)
class Persona:
    """One assistant. `asks` are short turns; `pastes` carry pasted context of 200-500 tokens."""

    name: str
    system: str
    blanks: dict[str, tuple[str, ...]]  # what may stand in {blank}; each # becomes a digit
    asks: tuple[str, ...]
    pastes: tuple[str, ...]


def fill(text: str, persona: Persona, rng: random.Random) -> str:
    """`text` with every {blank} filled; the same blank keeps its value within one text."""
    chosen: dict[str, str] = {}

    def value(found: re.Match[str]) -> str:
        name = found.group(1)
        if name not in chosen:
            pattern = rng.choice(persona.blanks[name])
            chosen[name] = re.sub("#", lambda _: str(rng.randrange(10)), pattern)
        return chosen[name]

    return _BLANK.sub(
        lambda found: value(found) if found.group(1) in persona.blanks else found.group(), text
    )


@cache
def load_personas() -> tuple[Persona, ...]:
    """Every shipped persona, by name."""
    folder = files("radixroute.demo.workload") / "texts"
    names = sorted(entry.name for entry in folder.iterdir() if entry.name.endswith(".json"))
    if not names:
        raise TornTexts(f"no texts in {folder}")
    return tuple(_parse(name, (folder / name).read_text(encoding="utf-8")) for name in names)


def _parse(name: str, text: str) -> Persona:
    try:
        raw: dict[str, Any] = json.loads(text)
        return Persona(
            name=raw["name"],
            system="\n".join(raw["system"]),
            blanks={blank: tuple(values) for blank, values in raw["slots"].items()},
            asks=tuple(raw["asks"]),
            pastes=tuple("\n".join(lines) for lines in raw["pastes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as broken:
        raise TornTexts(f"texts/{name} is damaged: {broken!r}") from broken
