"""What a vLLM says of itself: `/v1/models`, `/metrics`, `/kv_event_sources`, `/version`. Pure."""

import msgspec

from radixroute.worker.companions.dialects.common.models import MODELS, models_of, no_model
from radixroute.worker.companions.dialects.common.places import connects_to, reachable
from radixroute.worker.companions.dialects.common.prometheus import by_label, samples, total
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Answers,
    EngineNumbers,
    EventPlace,
    RankNumbers,
    Statement,
)

HEALTH = "/health"
METRICS = "/metrics"
SOURCES = "/kv_event_sources"
VERSION = "/version"

_CACHE = "vllm:cache_config_info"
_RUNNING = "vllm:num_requests_running"
_WAITING = "vllm:num_requests_waiting"
_USAGE = "vllm:kv_cache_usage_perc"
_STEPS = "vllm:iteration_tokens_total_count"
_STARTED = "process_start_time_seconds"
_RANK = "engine"  # label
_NOT_FOUND = 404  # of a version that does not know the question


class _Source(msgspec.Struct):
    endpoint: str | None = None
    replay_endpoint: str | None = None
    topic: str = ""
    enable_kv_cache_events: bool = True
    buffer_steps: int | None = None
    hwm: int | None = None
    max_queue_size: int | None = None


class _Version(msgspec.Struct):
    version: str


def statement(answers: Answers, host: str) -> Statement:
    models = models_of(answers[MODELS])
    base = next((model for model in models if model.parent is None), None)
    if base is None:
        raise no_model(answers[MODELS], "vllm")
    found = samples(answers[METRICS].body, [_CACHE, _RUNNING])
    cache = found[_CACHE]
    labels = cache[0].labels if cache else {}
    ranks = max(1, len(by_label({_RUNNING: found[_RUNNING]}, _RANK)))
    dtype = labels.get("cache_dtype", "")
    return Statement(
        kind="vllm",
        model=base.id,
        version=_version(answers[VERSION]),
        root=base.root or "",
        adapters=tuple(model.id for model in models if model.parent is not None),
        max_model_len=base.max_model_len or 0,
        block_size=_number(labels.get("block_size")),
        # Of all its ranks together; one of each is never used.
        kv_blocks=max(0, _number(labels.get("num_gpu_blocks")) - ranks),
        kv_dtype="" if dtype == "auto" else dtype,
        places=_places(answers[SOURCES], host),
        tells_places=answers[SOURCES].status != _NOT_FOUND,
        has_prefix_cache=labels.get("enable_prefix_caching", "True") != "False",
        ranks=ranks,
    )


def is_page(page: bytes) -> bool:
    """Whether a metrics page is a vLLM's."""
    return bool(samples(page, [_CACHE])[_CACHE])


def numbers(page: bytes) -> EngineNumbers:
    found = samples(page, [_RUNNING, _WAITING, _USAGE, _STEPS, _STARTED])
    started = total(found.pop(_STARTED)[:1])
    ranks = tuple(
        RankNumbers(
            running=int(rank.get(_RUNNING, 0.0)),
            waiting=int(rank.get(_WAITING, 0.0)),
            kv_usage=rank.get(_USAGE, 0.0),
            steps=int(rank[_STEPS]) if _STEPS in rank else None,
        )
        for rank in by_label(found, _RANK)
    )
    return EngineNumbers(ranks, started)


def _version(answer: Answer) -> str:
    try:
        return msgspec.json.decode(answer.body, type=_Version).version if answer.is_ok else ""
    except msgspec.MsgspecError:
        return ""


def _places(answer: Answer, host: str) -> tuple[EventPlace, ...]:
    """By rank. None: it sends no events, or is older than the question."""
    try:
        sources = msgspec.json.decode(answer.body, type=dict[str, _Source]) if answer.is_ok else {}
    except msgspec.MsgspecError:
        return ()
    return tuple(
        EventPlace(
            int(rank),
            reachable(source.endpoint, host),
            reachable(source.replay_endpoint or "", host),
            source.topic,
            connects_to(source.endpoint),
            buffer_steps=max(0, source.buffer_steps or 0),
            hwm=max(0, source.hwm or 0),
            queue_len=max(0, source.max_queue_size or 0),
        )
        for rank, source in sorted(sources.items())
        if rank.isdecimal() and source.endpoint and source.enable_kv_cache_events
    )


def _number(text: str | None) -> int:
    return int(text) if text and text.isascii() and text.isdecimal() else 0
