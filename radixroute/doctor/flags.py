"""Flags: what each kind of engine calls the options that fixes name. Pure."""

from collections.abc import Iterable, Mapping
from typing import Final

OURS: Final = "torch"  # the kind of our own engine, as its worker tells it
NAMES: Final = {"vllm": "vLLM", "sglang": "SGLang"}
AUTO: Final = "auto"  # the KV dtype of who names none

# What gives caches more room, and what takes shorter requests.
MORE_MEMORY: Final = {
    OURS: "--kv-memory (worker.kv_memory)",
    "vllm": "--gpu-memory-utilization of vLLM (VLLM_CPU_KVCACHE_SPACE on CPU)",
    "sglang": "--mem-fraction-static of SGLang",
}
LENGTH: Final = {
    OURS: "worker.max_model_len",
    "vllm": "--max-model-len",
    "sglang": "--context-length",
}
BLOCK_SIZE: Final = {
    OURS: "worker.block_size",
    "vllm": "--block-size",
    "sglang": "--page-size",
}
KV_DTYPE: Final = {
    OURS: "worker.kv_dtype",
    "vllm": "--kv-cache-dtype",
    "sglang": "--kv-cache-dtype",
}
MODEL: Final = {OURS: "worker.model", "vllm": "--model", "sglang": "--model-path"}
MODEL_NAME: Final = {
    OURS: "worker.served_model_name",
    "vllm": "--served-model-name",
    "sglang": "--served-model-name",
}
# What tells of each request how much of its prompt was cached, and what keeps prompts at all.
TELLS_CACHED: Final = {
    "vllm": "start the engine with --enable-prompt-tokens-details",
    "sglang": "start an SGLang of 0.4 or later",
    "openai": "start the server so that usage.prompt_tokens_details.cached_tokens is told "
    "(--enable-prompt-tokens-details of vLLM, --enable-cache-report of SGLang)",
}
KEEPS_PROMPTS: Final = {
    "vllm": "start engines with --enable-prefix-caching and --enable-prompt-tokens-details",
    "sglang": "start engines without --disable-radix-cache",
}
# The same of one engine; of a plain server nobody knows which it is.
_KEEPS_VLLM: Final = "start that vLLM with --enable-prefix-caching"
_KEEPS_SGLANG: Final = "start that SGLang without --disable-radix-cache"
KEEPS: Final = {
    "vllm": _KEEPS_VLLM,
    "sglang": _KEEPS_SGLANG,
    "openai": "turn on the prefix cache of that server: --enable-prefix-caching where it is a "
    "vLLM, no --disable-radix-cache where it is an SGLang, else as its manual says",
}
# What sizes a pool, and what overrides that.
_POOL_VLLM: Final = "--gpu-memory-utilization (--num-gpu-blocks-override where it is set)"
_POOL_SGLANG: Final = "--mem-fraction-static (--max-total-tokens where it is set)"
POOL: Final = {
    OURS: MORE_MEMORY[OURS],
    "vllm": f"{_POOL_VLLM}, VLLM_CPU_KVCACHE_SPACE on CPU",
    "sglang": _POOL_SGLANG,
    "openai": f"{_POOL_VLLM} where it is a vLLM, {_POOL_SGLANG} where it is an SGLang,",
}
# How many requests run at once.
MOST_SEQS: Final = {
    OURS: "worker.max_num_seqs",
    "vllm": "--max-num-seqs",
    "sglang": "--max-running-requests",
}
# Which adapters are served.
ADAPTERS: Final = {
    "vllm": "--enable-lora and --lora-modules",
    "sglang": "--enable-lora and --lora-paths",
}
# What makes an engine slower than one without, or with another value.
SPEED: Final = {
    "vllm": "--enforce-eager, --max-num-batched-tokens, --dtype",
    "sglang": "--disable-cuda-graph, --chunked-prefill-size, --dtype",
    OURS: "worker.torch_threads, worker.max_num_batched_tokens, worker.dtype",
    "openai": "its threads, its batches, its dtype",
}


def of_all(flags: Mapping[str, str], kinds: Iterable[str]) -> str:
    """The one flag that all of them have; empty: they are of several kinds, or of none here."""
    of_kinds = set(kinds)
    return flags.get(of_kinds.pop(), "") if len(of_kinds) == 1 else ""
