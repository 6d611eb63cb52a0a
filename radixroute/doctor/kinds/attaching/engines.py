"""Engines beyond their joining: ports, pools, versions, and how several of them differ."""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Final, TypeAlias

from radixroute.doctor.check import Check, Level, Seen
from radixroute.doctor.evidence import EngineSeen, Evidence
from radixroute.doctor.flags import (
    AUTO,
    BLOCK_SIZE,
    KV_DTYPE,
    LENGTH,
    MODEL_NAME,
    MORE_MEMORY,
    NAMES,
)
from radixroute.doctor.kinds.attaching.joining import join_code
from radixroute.doctor.kinds.attaching.models import fix_of, kinship
from radixroute.worker.companions.dialects.dialect import Statement

SAME_STEPS: Final = 64  # a few prompts lie between two looks
# What companions were written for: older ones lack token ids, or say nothing of themselves.
LEAST_VERSIONS: Final = {"vllm": (0, 10, 2), "sglang": (0, 5, 0)}


def _http_port(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        if engine.is_open:
            yield Seen(engine.url, "its HTTP server answers other machines, and asks for no key")


def _several(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        n = len(engine.examination.lives)
        if n > 1:
            what = f"{n} processes answer at that URL, each its own page of metrics"
            yield Seen(engine.url, what)


def _same(evidence: Evidence) -> Iterator[Seen]:
    """Each that is one of those before it."""
    for at, one in enumerate(evidence.engines):
        before = evidence.engines[:at]
        for other in before:
            if len(one.examination.lives) > 1 or _are_two(evidence, one, other):
                continue
            if why := _why_same(one, other):
                yield Seen(one.url, f"it is {other.url}: {why}")
                break


def _are_two(evidence: Evidence, one: EngineSeen, other: EngineSeen) -> bool:
    """Whatever they have in common, as where both name one event port: they began at different
    moments, or events there were seen to be another's."""
    this, that = one.examination, other.examination
    if one.end and one.end == other.end:
        return False
    is_younger = bool(this.lives and that.lives) and this.lives != that.lives
    return is_younger or any(_has_others_events(evidence, each) for each in (one, other))


def _has_others_events(evidence: Evidence, engine: EngineSeen) -> bool:
    if any(one.code == "events_differ" for one in engine.examination.findings):
        return True
    workers = () if evidence.router is None else evidence.router.now.workers
    return any(
        join_code(one.reason) == "events_differ" and f"{engine.url}:" in one.reason
        for one in workers
    )


def _why_same(one: EngineSeen, other: EngineSeen) -> str:
    """Empty: it is not."""
    if one.end and one.end == other.end:
        return "both URLs lead to one address"
    events = set(one.event_ends) & set(other.event_ends)
    if events:
        return f"both send their events at {min(events)}"
    this, that = one.examination, other.examination
    is_of_an_age = len(this.lives) == 1 and this.lives == that.lives
    if not is_of_an_age or this.steps is None or that.steps is None:
        return ""
    # Two may begin at one moment; not at one port of two machines, with the same work done.
    ports = _ports(one) == _ports(other)
    is_alike = ports and abs(this.steps - that.steps) <= SAME_STEPS
    return "both began at the same moment and have made the same steps" if is_alike else ""


def _ports(engine: EngineSeen) -> set[str]:
    ends = engine.event_ends or (engine.end.partition("/")[0],)
    return {end.rpartition(":")[2] for end in ends}


def _orphan(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        if engine.orphans:
            pids = ", ".join(map(str, engine.orphans))
            yield Seen(engine.url, f"nothing answers, and VLLM::EngineCore (pid {pids}) still runs")


def _pool(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        said = engine.examination.statement
        if said is None or not (said.kv_blocks and said.block_size and said.max_model_len):
            continue
        tokens = said.kv_blocks * said.block_size
        if tokens < said.max_model_len:
            what = f"room for {tokens:,} tokens, requests may have {said.max_model_len:,}"
            flag = MORE_MEMORY.get(said.kind, "")
            fix = f"raise {flag}, or lower {LENGTH[said.kind]}" if flag else ""
            yield Seen(engine.url, what, fix)


def _template(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        here, there = engine.examination.has_template_here, engine.examination.has_template_there
        if here is False and there is True:
            yield Seen(engine.url, "it renders chats, the tokenizer's folder here cannot")


def _old(evidence: Evidence) -> Iterator[Seen]:
    for engine in evidence.engines:
        said = engine.examination.statement
        least = None if said is None else LEAST_VERSIONS.get(said.kind)
        if said is None or least is None or not (version := _release(said.version)):
            continue
        if version < least:
            wanted = ".".join(map(str, least))
            fix = f"install {NAMES[said.kind]} {wanted} or later there"
            yield Seen(engine.url, f"it is of {said.version}", fix)


def _release(version: str) -> tuple[int, ...]:
    """Its first numbers; empty: it has none, or is a build between releases."""
    found = re.match(r"v?(\d+)\.(\d+)(?:\.(\d+))?", version)
    if found is None or "dev" in version:
        return ()
    return tuple(int(part or 0) for part in found.groups())


def _dtype(engine: EngineSeen, said: Statement) -> str | None:
    """As its worker would tell it, which is what the router compares: the model's own where the
    engine says none."""
    told = engine.examination.kv_dtype
    return (said.kv_dtype or None) if told is None else told


Read: TypeAlias = Callable[[EngineSeen, Statement], object]


def _shown(read: Read, said: Statement, value: object) -> str:
    """A dtype that an engine does not name itself is that of its `auto`."""
    if read is not _dtype or said.kv_dtype:
        return str(value)
    return f"{AUTO} ({value})" if value else AUTO


_SAME: Final[tuple[tuple[str, Read, Mapping[str, str]], ...]] = (
    ("model", lambda _, said: said.model, MODEL_NAME),
    ("block size", lambda _, said: said.block_size or None, BLOCK_SIZE),
    ("KV dtype", _dtype, KV_DTYPE),
    ("max_model_len", lambda _, said: said.max_model_len or None, LENGTH),
)


def _differ(evidence: Evidence) -> Iterator[Seen]:
    """Each against what most of them say; the first one's word where there is no most."""
    told = [
        (engine, said)
        for engine in evidence.engines
        if (said := engine.examination.statement) is not None
    ]
    for name, read, flags in _SAME:
        known = [
            (engine, said, value)
            for engine, said in told
            if (value := read(engine, said)) is not None
        ]
        values = [value for _, _, value in known]
        if len(set(values)) < 2:
            continue
        usual = max(values, key=values.count)
        first = next(engine for engine, _, value in known if value == usual)
        theirs = next(_shown(read, said, value) for _, said, value in known if value == usual)
        for engine, said, value in known:
            if value != usual:
                flag = flags.get(said.kind, "")
                what = f"its {name} is {_shown(read, said, value)}, that of the others {theirs}"
                fix = f"give all engines the same: {flag}" if flag else ""
                if name == "model":
                    fix = fix_of(said.kind, kinship(engine, first), str(usual))
                yield Seen(engine.url, what, fix)


ENGINE_CHECKS: Final = (
    Check(
        "template_missing",
        Level.ERROR,
        "chats cannot be rendered here, though the engine can",
        "the router renders chats: it would refuse every one of them",
        "give companion.model a folder whose tokenizer_config.json has a chat_template, or that "
        "has a chat_template.jinja",
        _template,
    ),
    Check(
        "engine_open",
        Level.WARNING,
        "an engine answers other machines without a key",
        "whoever reaches it runs prompts there, past the router and its keys",
        "start it with --host 127.0.0.1 and a router beside it, or with --api-key and "
        "companion.api_key_file; else let a firewall or network policy give its port to the "
        "router's machine alone",
        _http_port,
    ),
    Check(
        "several_engines",
        Level.ERROR,
        "several engines answer at one URL",
        "each has a cache of its own, and whoever balances between them chooses: hits are luck",
        "give each engine its own URL: --engine of every one, not of the load balancer before them",
        _several,
    ),
    Check(
        "same_engine_twice",
        Level.ERROR,
        "one engine is there under two names",
        "its memory and its queue are counted twice, and it gets twice its part of the requests",
        "leave out all but one of its --engine",
        _same,
    ),
    Check(
        "orphan_core",
        Level.ERROR,
        "an engine's server is dead and its core still holds the event ports",
        "a new server cannot start there: the address is in use",
        "kill that process (VLLM::EngineCore: its server was killed), then start the engine again",
        _orphan,
    ),
    Check(
        "engine_kv_pool_small",
        Level.WARNING,
        "the engine's KV pool has less room than one request may need",
        "a long request can never run there, or evicts everything",
        "raise --gpu-memory-utilization (VLLM_CPU_KVCACHE_SPACE on CPU), or lower --max-model-len; "
        "of SGLang --mem-fraction-static and --context-length",
        _pool,
    ),
    Check(
        "version_old",
        Level.ERROR,
        "an engine's version is older than what companions need",
        "it lacks what they ask for: answers could not go on elsewhere, nor its cache be followed",
        "install vLLM 0.10.2, SGLang 0.5 or later",
        _old,
    ),
    Check(
        "engines_differ",
        Level.ERROR,
        "engines of one fleet differ",
        "a fleet has one model, block size and KV dtype: the others are refused at the join",
        "start all engines with the same options",
        _differ,
    ),
)
