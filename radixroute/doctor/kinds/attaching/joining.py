"""What keeps an engine or a worker out: the join's own findings, seen without or after a join.

An engine that is examined has them at once; in a running fleet they are in the reason why a worker
is coming up again, or in why the router refused it.
"""

import re
from collections.abc import Iterator
from functools import partial
from typing import Final

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import Evidence
from radixroute.doctor.kinds.attaching.engine_events import are_shared
from radixroute.doctor.kinds.attaching.models import TOKENS, other_by_name
from radixroute.worker.companions.join.findings import (
    CODES,
    NOTICES,
    Finding,
    finding,
    finding_in,
)

_WHY: Final = {
    "unreachable": "nothing can be sent there",
    "stalls": "requests sent there would wait until they are given up",
    "late": "companions would give it up, and nobody waits so long for a first token",
    "key": "every request would be turned away",
    "ill": "it would refuse whatever is sent there",
    "no_tls": "nothing can be sent there",
    "models": "requests need the name that it serves",
    "block_size": "block keys are made of blocks of the engine's size: no hit can be foreseen",
    "block_size_differs": "a fleet has blocks of one size, or keys of one worker mean nothing at "
    "another",
    "max_model_len": "requests that are too long could not be told so before they wait",
    "folder": "the router makes the tokens: without the tokenizer it cannot",
    "tokenizer": "other tokens are other prompts: answers would be wrong and no hit foreseen",
    "template": "chats would be other prompts than the engine's own door makes of them",
    "events": "the router cannot know what the engine has cached: it routes by load alone",
    "events_connect": "nobody can listen to it: the router would believe the cache empty",
    "events_silent": "the router would believe the cache empty: it routes by load alone",
    "events_not_live": "the router would know what is cached seconds too late, and only what "
    "replays still keep",
    "events_differ": "the router would believe another engine's cache to be this one's",
    "replay": "batches that are lost, and all that was cached before, stay unknown",
    "replay_silent": "batches that are lost, and all that was cached before, stay unknown",
    "cached_tokens": "hit rates cannot be told, and what its events say not be held against them",
    "prefix_caching": "every prompt is computed anew, however it is routed",
    "page_size": "each token would have a key and an event of its own: what one block costs",
    "adapters": "the router would take blocks of an adapter for the model's own",
    "ranks": "each rank has a cache of its own, and the server chooses the rank: hits are luck",
    "hangs": "requests sent there would wait until they are given up",
    "canary": "it would not answer requests, either",
    "prompts": "the router makes the tokens: a server that wants text would make others",
    "token_ids": "an answer could not go on elsewhere, nor its blocks be known",
    "cancel": "what nobody waits for any more takes the room of what somebody does",
    "reasoning": "clients of the same model get other answers here than at the engine's own door",
    "salt": "whoever measures times learns what others asked, salt or no salt",
}
# How the router words a refusal of a worker, where the join has a code for that.
_REFUSALS: Final = {
    "block_size_differs": (
        re.compile(r"^block size "),
        "give all workers one block size: --block-size of vLLM, --page-size of SGLang, "
        "worker.block_size of ours",
    ),
    "tokenizer": (
        re.compile(r"^tokenizer fingerprint "),
        "give all workers the same tokenizer files: companion.model, or the model of each worker",
    ),
}


def join_code(reason: str) -> str | None:
    """What a worker's reason says in the words of the join or of the router."""
    found = finding_in(reason)
    if found is not None:
        return found.code
    return next((code for code, (words, _) in _REFUSALS.items() if words.match(reason)), None)


def _look(code: str, evidence: Evidence) -> Iterator[Seen]:
    if code in _OF_SHARED_EVENTS and are_shared(evidence):
        return  # that is told, and mended otherwise
    told, others = set(), {}
    if code in TOKENS:
        others = {engine.url: fix for engine, fix in other_by_name(evidence)}
    for engine in evidence.engines:
        for one in (*engine.examination.findings, *engine.examination.notices):
            if one.code == code:
                told.add(engine.url)
                yield _seen(engine.url, one, others.get(engine.url, ""))
    for worker in () if evidence.router is None else evidence.router.now.workers:
        reason = worker.reason
        if not reason or worker.state == "live" or any(f"{url}:" in reason for url in told):
            continue
        found = finding_in(reason)
        if found is not None and found.code == code:
            yield _seen(worker.worker_id, found)
        elif found is None and code in _REFUSALS and _REFUSALS[code][0].match(reason):
            yield Seen(worker.worker_id, f"refused: {reason}", _REFUSALS[code][1])


def _seen(where: str, found: Finding, fix: str = "") -> Seen:
    what = f"{found.problem} ({found.detail})" if found.detail else found.problem
    return Seen(where, what, fix or found.remedy)


# What a companion finds that follows another engine's events.
_OF_SHARED_EVENTS: Final = ("events_differ", "events_silent", "events_not_live", "replay_silent")


def _check(code: str) -> Check:
    one = finding(code)
    level = Level.WARNING if code in NOTICES else Level.ERROR
    return Check(code, level, one.problem, _WHY[code], one.remedy, partial(_look, code))


JOIN_CHECKS: Final = tuple(_check(code) for code in CODES)
