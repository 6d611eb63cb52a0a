"""Findings: what is wrong with an engine that wants to join, each with the flag that mends it.

A table of codes and sentences; `checklist` decides which of them holds.
"""

from dataclasses import dataclass
from typing import Final

from radixroute.worker.errors import StartFailed

_EVENTS_FLAG: Final = (
    '--kv-events-config \'{"enable_kv_cache_events":true,"publisher":"zmq",'
    '"endpoint":"tcp://*:5557","replay_endpoint":"tcp://*:5558","topic":"kv-events"}\''
)

_SENTENCES: Final = {
    "unreachable": "nothing answers; start the engine, or mend the URL",
    "key": "it wants a key: give companion.api_key_file the file with the engine's --api-key",
    "models": "it names no model at /v1/models: is it a server of the kind that was said?",
    "block_size": "it does not say its block size at /metrics: start it without "
    "--disable-log-stats, or give companion.block_size",
    "block_size_differs": "its blocks have another size than companion.block_size: start it with "
    "the --block-size that the fleet has",
    "max_model_len": "it does not say how long a request may be",
    "folder": "its model folder is not on this machine: give companion.model a folder with its "
    "tokenizer.json and config.json",
    "tokenizer": "it makes other tokens of a text than the tokenizer here: give companion.model "
    "the folder that the engine serves, or start the engine with --tokenizer of that folder",
    "template": "it makes other tokens of a chat than the template here: give companion.model the "
    "folder that the engine serves, or start the engine with --chat-template of that folder",
    "events": f"it sends no cache events: start it with {_EVENTS_FLAG}, or set "
    "companion.allow_no_events",
    "events_silent": "nothing was heard of what it cached: is the endpoint of its "
    "--kv-events-config reachable from here? Or set companion.allow_no_events",
    "events_differ": "its events tell of other tokens than it was sent: is the endpoint of its "
    "--kv-events-config that of this engine?",
    "replay": 'nothing answers for events that were missed: add "replay_endpoint" to its '
    f"--kv-events-config, as in {_EVENTS_FLAG}, or set companion.allow_no_replay",
    "cached_tokens": "it does not tell how much of a prompt was cached: start it with "
    "--enable-prompt-tokens-details, or set companion.allow_no_cached_tokens",
    "prefix_caching": "it keeps nothing of a prompt for the next one: start it with "
    "--enable-prefix-caching, or set companion.allow_no_events",
    "ranks": "it has several data-parallel ranks, and a companion follows one: start engines with "
    "--data-parallel-size 1 and give each its URL, or set companion.allow_no_events",
    "canary": "it does not answer a prompt of a few blocks",
    "token_ids": "it returns no token ids: vLLM 0.10.2 or later does",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong. `text` is a fixed sentence with what to do."""

    code: str
    text: str


class JoinRefused(StartFailed):
    """An engine may not join as it is."""

    def __init__(self, finding: Finding, url: str = "") -> None:
        super().__init__(f"engine {url}: {finding.text}" if url else finding.text)
        self.finding = finding


def finding(code: str, detail: str = "") -> Finding:
    return Finding(code, f"{_SENTENCES[code]} ({detail})" if detail else _SENTENCES[code])


CODES: Final = tuple(_SENTENCES)
