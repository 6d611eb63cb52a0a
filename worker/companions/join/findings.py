"""Findings: what is wrong with an engine that wants to join, each with the flag that mends it.

A table of codes, each with what is wrong and what mends it; `checklist` decides which of them
holds. `radixroute doctor` shows the same ones without joining.
"""

from dataclasses import dataclass
from typing import Final

from radixroute.worker.errors import StartFailed

_EVENTS_FLAG: Final = (
    '--kv-events-config \'{"enable_kv_cache_events":true,"publisher":"zmq",'
    '"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558","topic":"kv-events"}\''
)

_SENTENCES: Final[dict[str, tuple[str, str]]] = {
    "unreachable": ("nothing answers", "start the engine, or mend the URL"),
    "key": ("it wants a key", "give companion.api_key_file the file with the engine's --api-key"),
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
        "start a server that tells max_model_len at /v1/models",
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
    "events_silent": (
        "nothing was heard of what it cached",
        "is the endpoint of its --kv-events-config reachable from here? Or set "
        "companion.allow_no_events",
    ),
    "events_differ": (
        "its events tell of other tokens than it was sent",
        "is the endpoint of its --kv-events-config that of this engine?",
    ),
    "replay": (
        "nothing answers for events that were missed",
        f'add "replay_endpoint" to its --kv-events-config, as in {_EVENTS_FLAG}, or set '
        "companion.allow_no_replay",
    ),
    "cached_tokens": (
        "it does not tell how much of a prompt was cached",
        "start it with --enable-prompt-tokens-details, or set companion.allow_no_cached_tokens",
    ),
    "prefix_caching": (
        "it keeps nothing of a prompt for the next one",
        "start it with --enable-prefix-caching, or set companion.allow_no_events",
    ),
    "ranks": (
        "it has several data-parallel ranks, and a companion follows one",
        "start engines with --data-parallel-size 1 and give each its URL, or set "
        "companion.allow_no_events",
    ),
    "canary": (
        "it does not answer a prompt of a few blocks",
        "look at its log, and ask its /v1/completions for one token",
    ),
    "token_ids": ("it returns no token ids", "vLLM 0.10.2 or later does"),
    "salt": (
        "requests with different cache salts share its blocks",
        "start a version that takes cache_salt: until then cache_salt and tenants keep nothing "
        "apart",
    ),
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


def finding(code: str, detail: str = "") -> Finding:
    problem, remedy = _SENTENCES[code]
    return Finding(code, problem, remedy, detail)


def finding_in(text: str) -> Finding | None:
    """What a refusal says, which comes as text from another process."""
    for code, (problem, remedy) in _SENTENCES.items():
        _, found, rest = text.partition(f"{problem}: {remedy}")
        if found:
            return Finding(code, problem, remedy, rest.strip().removeprefix("(").removesuffix(")"))
    return None


CODES: Final = tuple(_SENTENCES)
