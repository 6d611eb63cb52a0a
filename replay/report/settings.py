"""Settings in words: everything that runs depended on, so that somebody else can repeat them.

Pure. Every setting is shown, also one that this module has no words for: its name then has to do.
"""

from collections.abc import Mapping
from typing import Final

from radixroute.replay.report.text import printable

_WORDS: Final = {
    "speeds": "arrival speeds (1: as recorded)",
    "seed": "seed of ties and random choices",
    "kv_blocks": "KV blocks of each worker",
    "block_size": "tokens of a block",
    "kv_tokens": "KV tokens of each worker, where no blocks are given",
    "n": "routers",
    "by": "requests come to routers by",
    "heartbeat_ms": "heartbeats of a worker, each",
    "max_num_batched_tokens": "tokens of a step, at most",
    "max_num_seqs": "requests running on a worker, at most",
    "slowness": "slowness of the first workers",
    "eviction_policy": "eviction",
    "session_ends": "share of sessions whose last request says so",
    "event_delay_ms": "cache events reach the router after",
    "dispatch_ms": "requests reach their worker after",
    "prefill_bias": "prefill times as the router is told, over true ones",
    "decode_bias": "decode times as the router is told, over true ones",
}


def settings_in_words(settings: Mapping[str, object], version: str) -> dict[str, str]:
    """In their order; records inside them are flattened, but for a named one such as a timing."""
    found = {"radixroute": version}
    for name, value in settings.items():
        if isinstance(value, Mapping) and "name" not in value:
            found |= {_name(inner): _value(inner, one) for inner, one in value.items()}
        else:
            found[_name(name)] = _value(name, value)
    blocks, size = settings.get("kv_blocks"), settings.get("block_size")
    if isinstance(blocks, int) and isinstance(size, int):
        found[_name("kv_blocks")] += f" ({blocks * size:,} tokens)"
    return found


def _name(name: str) -> str:
    return _WORDS.get(name) or name.removesuffix("_ms").replace("_", " ")


def _value(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int) and name != "seed":
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:g}{' ms' if name.endswith('_ms') else ''}"
    if isinstance(value, Mapping):
        others = [f"{key} {_value(key, one)}" for key, one in value.items() if key != "name"]
        return ", ".join([*([printable(str(value["name"]))] if "name" in value else []), *others])
    if isinstance(value, list | tuple):
        return ", ".join(_value("", one) for one in value) or "none"
    return "none" if value is None else printable(str(value))
