"""Findings: what is wrong with an engine that wants to join, each with the flag that mends it.

A table of codes, each with what is wrong and what mends it, and with what other kinds of engines
call that beside vLLM; `checklist` decides which of them holds. `radixroute doctor` shows the same
ones without joining.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Final

from radixroute.worker.errors import StartFailed

_EVENTS_FLAG: Final = (
    '--kv-events-config \'{"enable_kv_cache_events":true,"publisher":"zmq",'
    '"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558","topic":"kv-events"}\''
)
_SGLANG_EVENTS: Final = (
    '--kv-events-config \'{"publisher":"zmq","endpoint":"tcp://*:5557",'
    '"replay_endpoint":"tcp://*:5558"}\''
)

_SENTENCES: Final[Mapping[str, tuple[str, str]]] = {
    "unreachable": ("nothing answers", "start the engine, or mend the URL"),
    "stalls": (
        "it takes connections and answers nothing",
        "see whether its process is stopped (kill -CONT it, docker unpause) or hangs, by its log; "
        "restart it where it does not go on, or mend the proxy that stands before it",
    ),
    "late": (
        "it takes connections and answers too late",
        "see what its server waits for before each answer: a CPU that others use up, a proxy, a "
        "name that is looked up; companions give an answer up after 5 s",
    ),
    "key": ("it wants a key", "give companion.api_key_file the file with the engine's --api-key"),
    "ill": (
        "it answers that it is not well",
        "see its log: it may still load its model; restart it where it does not recover",
    ),
    "no_tls": ("it speaks no TLS", "write http:// in its URL"),
    "models": ("it names no model at /v1/models", "is it a server of the kind that was said?"),
    "block_size": (
        "it does not say its block size at /metrics",
        "start it without --disable-log-stats, or give companion.block_size",
    ),
    "block_size_differs": (
        "its blocks have another size than companion.block_size",
        "start it with the --block-size that the fleet has",
    ),
    "max_model_len": (
        "it does not say how long a request may be",
        "give companion.max_model_len",
    ),
    "folder": (
        "its model folder is not on this machine",
        "give companion.model a folder with its tokenizer.json and config.json",
    ),
    "tokenizer": (
        "it makes other tokens of a text than the tokenizer here",
        "give companion.model the folder that the engine serves, or start the engine with "
        "--tokenizer of that folder",
    ),
    "template": (
        "it makes other tokens of a chat than the template here",
        "give companion.model the folder that the engine serves, or start the engine with "
        "--chat-template of that folder",
    ),
    "events": (
        "it sends no cache events",
        f"start it with {_EVENTS_FLAG}, or set companion.allow_no_events",
    ),
    "events_connect": (
        "it connects to its event endpoint instead of listening there",
        'give "tcp://*:PORT" or an "ipc://" path as "endpoint" of its --kv-events-config: it '
        "listens at no other",
    ),
    "events_silent": (
        "nothing was heard of what it cached",
        "is the endpoint of its --kv-events-config reachable from here? Or set "
        "companion.allow_no_events",
    ),
    "events_not_live": (
        "nothing arrives from its event port, though its replay endpoint answers",
        'is the port of "endpoint" in its --kv-events-config the one that it listens at, and '
        "reachable from here (a firewall, the published ports of a container)? Or set "
        "companion.allow_no_events",
    ),
    "events_differ": (
        "its events tell of other tokens than it was sent",
        "is the endpoint of its --kv-events-config that of this engine?",
    ),
    "replay": (
        "it has no endpoint for events that were missed",
        f'add "replay_endpoint" to its --kv-events-config, as in {_EVENTS_FLAG}, or set '
        "companion.allow_no_replay",
    ),
    "replay_silent": (
        "nothing answers at its endpoint for events that were missed",
        'is the "replay_endpoint" of its --kv-events-config reachable from here? Or set '
        "companion.allow_no_replay",
    ),
    "cached_tokens": (
        "it does not tell how much of a prompt was cached",
        "start it with --enable-prompt-tokens-details, or set companion.allow_no_cached_tokens",
    ),
    "prefix_caching": (
        "it keeps nothing of a prompt for the next one",
        "start it with --enable-prefix-caching",
    ),
    "page_size": (
        "each of its pages holds one token, so that every token would be a block",
        "start it with --page-size 16",
    ),
    "adapters": (
        "its events do not tell blocks of an adapter from the model's own",
        'add "format":"dynamo" to its --kv-events-config, start it without adapters, or set '
        "companion.allow_no_events",
    ),
    "ranks": (
        "it has several data-parallel ranks that cannot be told apart",
        "start a version that tells the events of each rank and takes requests for a rank, or "
        "engines with --data-parallel-size 1 and give each its URL, or set "
        "companion.allow_no_events",
    ),
    "hangs": (
        "it answers that it is well, and a prompt of a few blocks has no answer",
        "restart it, and look at its log: it makes no step, or is far too slow",
    ),
    "canary": (
        "it does not answer a prompt of a few blocks",
        "look at its log, and ask its /v1/completions for one token",
    ),
    "prompts": (
        "it takes no prompt of token ids at /v1/completions, or none whose usage is told in a "
        "stream",
        "companions need a server that does",
    ),
    "token_ids": ("it returns no token ids", "vLLM 0.10.2 or later does"),
    "cancel": (
        "a request goes on running there when its connection is closed",
        "take away what stands between: a proxy must close its side when its client leaves",
    ),
    "reasoning": (
        "it takes what a model thinks out of what it says in chats, and chats that reach it as "
        "token ids it does not",
        "clients that want it apart send a field that only the engine knows, such as "
        "include_reasoning: then the chat goes there as they wrote it",
    ),
    "salt": (
        "requests with different cache salts share its blocks",
        "start a version that takes cache_salt: until then cache_salt and tenants keep nothing "
        "apart",
    ),
}

# In place of a kind: what our own settings say of the engine is what is wrong, or its age.
KEYED: Final = "keyed"  # a key was sent
PLACED: Final = "placed"  # companion.events was given
UNTOLD: Final = "untold"  # the engine is too old to say where its events are
# Where of another kind of engine something else is wrong, or it is mended otherwise.
_PROBLEMS: Final[Mapping[str, Mapping[str, str]]] = {
    "sglang": {
        "models": "it says nothing of itself at /server_info or /v1/models",
        "block_size": "it does not say its page size",
        "token_ids": "it returns no token ids at /generate",
    },
    "openai": {
        "models": "it is no engine that is known here: it names no model at /v1/models",
    },
    KEYED: {"key": "it refuses the key of the file that was given"},
    UNTOLD: {"events": "it is of a version that does not say whether and where it sends events"},
    PLACED: {
        "events_silent": "nothing was heard of what it cached at companion.events",
        "events_not_live": "nothing arrives from companion.events, though companion.replay answers",
        "replay": "companion.events is given without companion.replay",
        "replay_silent": "nothing answers at companion.replay",
    },
}
_REMEDIES: Final[Mapping[str, Mapping[str, str]]] = {
    "sglang": {
        "models": "is it an SGLang server, and not one behind another? Or set companion.dialect to "
        "openai",
        "block_size": "give companion.block_size",
        "block_size_differs": "start it with the --page-size that the fleet has",
        "events": f"start it with {_SGLANG_EVENTS}, or set companion.allow_no_events",
        "replay": f'add "replay_endpoint" to its --kv-events-config, as in {_SGLANG_EVENTS}, or '
        "set companion.allow_no_replay",
        "tokenizer": "give companion.model the folder that the engine serves, or start the engine "
        "with --tokenizer-path of that folder",
        "cached_tokens": "SGLang 0.4 or later does, or set companion.allow_no_cached_tokens",
        "prefix_caching": "start it without --disable-radix-cache",
        "ranks": "start a version that takes routed_dp_rank, or engines with --dp-size 1 and give "
        "each its URL, or set companion.allow_no_events",
        "canary": "look at its log, and ask its /generate for one token",
        "token_ids": "is it a server of language models?",
        "reasoning": "clients that want it apart send a field that only the engine knows, such as "
        "separate_reasoning: then the chat goes there as they wrote it",
    },
    "openai": {
        "models": "mend the URL: it must be that of a vLLM, an SGLang or an OpenAI-compatible "
        "server",
        "tokenizer": "give companion.model the folder of the model that it serves",
        "template": "give companion.model the folder of the model that it serves, with its "
        "template",
        "folder": "give companion.model one with the model's tokenizer.json and config.json",
        "cached_tokens": "start it so that usage.prompt_tokens_details.cached_tokens is told "
        "(vLLM: --enable-prompt-tokens-details, SGLang: --enable-cache-report), or set "
        "companion.allow_no_cached_tokens",
        "prefix_caching": "start it with its prefix cache on, or set companion.allow_no_events",
    },
    KEYED: {"key": "put the engine's --api-key into the file of companion.api_key_file"},
    UNTOLD: {
        "events": "give companion.events and companion.replay the endpoints of its "
        "--kv-events-config, start a vLLM that has /kv_event_sources, or set "
        "companion.allow_no_events",
    },
    PLACED: {
        "events_silent": "mend companion.events, or leave it out where the engine says itself "
        "where its events are",
        "events_not_live": "mend companion.events, or leave it and companion.replay out where the "
        "engine says itself where its events are",
        "events_differ": "mend companion.events: it is the endpoint of another engine",
        "replay": "give companion.replay the engine's replay endpoint, or set "
        "companion.allow_no_replay",
        "replay_silent": "mend companion.replay, or leave it and companion.events out where the "
        "engine says itself where its events are",
    },
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong: fixed sentences of what it is and of what to do."""

    code: str
    problem: str
    remedy: str
    detail: str = ""

    @property
    def text(self) -> str:
        """In one line."""
        line = f"{self.problem}: {self.remedy}"
        return f"{line} ({self.detail})" if self.detail else line


class JoinRefused(StartFailed):
    """An engine may not join as it is."""

    def __init__(self, finding: Finding, url: str = "") -> None:
        super().__init__(f"engine {url}: {finding.text}" if url else finding.text)
        self.finding = finding


def finding(code: str, detail: str = "", *, kind: str = "") -> Finding:
    """`kind`: of the engine, by its dialect; or `KEYED`, `PLACED`."""
    problem, remedy = _SENTENCES[code]
    problem = _PROBLEMS.get(kind, {}).get(code, problem)
    return Finding(code, problem, _REMEDIES.get(kind, {}).get(code, remedy), detail)


def finding_in(text: str) -> Finding | None:
    """What a refusal says, which comes as text from another process."""
    for one in _all():
        _, found, rest = text.partition(one.text)
        if found:
            return replace(one, detail=rest.strip().removeprefix("(").removesuffix(")"))
    return None


def _all() -> list[Finding]:
    """Of each kind of engine. Longer ones first: one may begin another."""
    every = {finding(code, kind=kind) for kind in ("", *_REMEDIES) for code in _SENTENCES}
    return sorted(every, key=lambda one: len(one.text), reverse=True)


CODES: Final = tuple(_SENTENCES)
NOTICES: Final = ("cancel", "reasoning")  # of these, what an engine joins in spite of
