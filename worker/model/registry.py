"""Registry: the families this engine computes, and the configuration of a model's folder.

Owns the one table. No torch. Called by the loaders, the demo and the memory plan; an architecture
that is not here, or weights in a quantised form, are refused by name.
"""

from dataclasses import replace
from pathlib import Path

from radixroute.worker.errors import ModelError
from radixroute.worker.model.families import deepseek_v2, gpt2, llama, mixtral, qwen3
from radixroute.worker.model.families.family import Family, ModelConfig
from radixroute.worker.model.fields import Fields, read_fields

FAMILIES: tuple[Family, ...] = (
    llama.FAMILY,
    qwen3.FAMILY,
    gpt2.FAMILY,
    deepseek_v2.FAMILY,
    mixtral.FAMILY,
)

_BY_ARCHITECTURE = {name: family for family in FAMILIES for name in family.architectures}
# Where quantised folders say so; none of their forms is undone here.
_QUANTISED = ("quantization_config", "quantization", "compression_config")


def load_config(folder: Path) -> ModelConfig:
    """Read `config.json` (and `generation_config.json` for the end tokens) of a model folder."""
    config = read_config(folder / "config.json")
    generation = folder / "generation_config.json"
    if generation.exists():
        eos = read_fields(generation).ids("eos_token_id")
        if eos is not None:
            return replace(config, eos_token_ids=eos)
    return config


def read_config(path: Path) -> ModelConfig:
    """Of one `config.json`. Raises `ModelError` for what no family computes."""
    fields = read_fields(path)
    architecture = _architecture(fields)
    config = _BY_ARCHITECTURE[architecture].read(fields, architecture)
    return replace(config, eos_token_ids=fields.ids("eos_token_id") or ())


def _architecture(fields: Fields) -> str:
    named = fields.get("architectures") or ["none"]
    architecture = str(named[0]) if isinstance(named, list) else str(named)
    if architecture not in _BY_ARCHITECTURE:
        raise ModelError(
            f"{fields.path} says {architecture}; this engine runs {', '.join(_BY_ARCHITECTURE)}"
        )
    for name in _QUANTISED:
        if fields.get(name) is not None:
            raise ModelError(
                f"{fields.path} has {name}: a quantised model, which this engine does not undo. "
                "Use the folder of the model it was made from, or a .gguf file"
            )
    return architecture
