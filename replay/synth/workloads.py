"""Synthetic workloads by name: seeded, the same seed and shape give the same trace everywhere.

Owns the table of kinds. Each is a shape with its own parameters (`sessions`,
`programs`, `prefixes`); all write blocks of 64 tokens, whose ids name whole prefixes.
"""

import dataclasses
import difflib
from collections.abc import Mapping

from radixroute.replay.errors import InvalidShape
from radixroute.replay.synth.draws import Draws
from radixroute.replay.synth.prefixes import Bursts, FewShot, HotPrefix, Rag, SystemPrompts
from radixroute.replay.synth.programs import Agents
from radixroute.replay.synth.sessions import AgentTrees, Chats
from radixroute.replay.traces.trace import Trace

Workload = Chats | SystemPrompts | FewShot | AgentTrees | Rag | Bursts | HotPrefix | Agents

KINDS: dict[str, type[Workload]] = {
    "chats": Chats,
    "system_prompts": SystemPrompts,
    "few_shot": FewShot,
    "agent_trees": AgentTrees,
    "rag": Rag,
    "bursts": Bursts,
    "hot_prefix": HotPrefix,
    "agents": Agents,
}
# Streams of random numbers of kinds whose name is another's: `agent_trees` was `agents` once, and
# its workloads stay what they were.
_STREAMS = {"agent_trees": "agents", "agents": "programs of agents"}


def synthesize(kind: str, seed: int, shape: Workload | None = None) -> Trace:
    """The workload of `kind`, of the shape given or of its default. Raises `InvalidShape`."""
    shape = shape_of(kind, {}) if shape is None else shape
    if seed < 0:
        raise InvalidShape(f"a seed is 0 or more, not {seed}")
    if not isinstance(shape, KINDS[kind]):
        raise InvalidShape(f"{kind} takes a shape of {KINDS[kind].__name__}")
    return shape.make(Draws.of(_STREAMS.get(kind, kind), seed, shape.sigma)).trace(f"{kind}-{seed}")


def shape_of(kind: str, texts: Mapping[str, str]) -> Workload:
    """A kind's shape with some parameters given as text. Raises `InvalidShape`."""
    if kind not in KINDS:
        raise InvalidShape(f"no workload is called {kind}: there are {', '.join(KINDS)}")
    types = {field.name: field.type for field in dataclasses.fields(KINDS[kind])}
    values: dict[str, int | float] = {}
    for name, text in texts.items():
        if name not in types:
            raise InvalidShape(f"{kind} has no {name}{_nearest(name, list(types))}")
        try:
            values[name] = int(text) if types[name] is int else float(text)
        except ValueError as broken:
            need = "a whole number" if types[name] is int else "a number"
            raise InvalidShape(f"{name}: {need}, not {text!r}") from broken
    # Every field of a shape is a number of the type just asked for.
    return KINDS[kind](**values)  # type: ignore[arg-type]


def _nearest(name: str, names: list[str]) -> str:
    found = difflib.get_close_matches(name, names, 1)
    return f"; did you mean {found[0]}?" if found else f": it has {', '.join(names)}"
