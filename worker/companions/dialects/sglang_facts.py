"""What an SGLang server says of itself: `/server_info`, `/v1/models`, `/metrics`. Pure.

Older servers have `/get_server_info`, and name their events in the arguments that they were
started with only.
"""

from typing import Final

import msgspec

from radixroute.worker.companions.dialects.common.models import MODELS, models_of, no_model
from radixroute.worker.companions.dialects.common.places import (
    connects_to,
    of_rank,
    on_host,
    reachable,
)
from radixroute.worker.companions.dialects.common.prometheus import by_label, samples
from radixroute.worker.companions.dialects.dialect import (
    Answer,
    Answers,
    EngineNumbers,
    EventPlace,
    RankNumbers,
    Statement,
)

KIND: Final = "sglang"
METRICS: Final = "/metrics"
INFO: Final = "/server_info"
OLD_INFO: Final = "/get_server_info"

_RUNNING: Final = "sglang:num_running_reqs"
_WAITING: Final = "sglang:num_queue_reqs"
_USAGE: Final = "sglang:token_usage"
_NAMES_ADAPTERS: Final = "dynamo"  # the form of events that does


class _Events(msgspec.Struct):
    """`kv_events` of `/server_info`: one publisher a rank, at ports that follow one another."""

    endpoint_port_base: int
    endpoint_host: str = "*"
    replay_endpoint_port_base: int | None = None
    topic: str = ""
    block_size: int = 0
    dp_size: int = 1
    publisher: str = "zmq"


class _EventsConfig(msgspec.Struct):
    """`--kv-events-config`."""

    publisher: str = "null"
    endpoint: str = "tcp://*:5557"
    replay_endpoint: str | None = None
    topic: str = ""
    format: str = ""


class _Info(msgspec.Struct):
    model_path: str
    version: str = ""
    tokenizer_path: str | None = None
    served_model_name: str | None = None
    context_length: int | None = None
    page_size: int | None = None
    dp_size: int = 1
    max_total_num_tokens: int | None = None  # of a rank's pool
    kv_cache_dtype: str | None = None
    disable_radix_cache: bool = False
    reasoning_parser: str | None = None
    kv_events: _Events | None = None
    kv_events_config: str | None = None


def is_one(answers: Answers) -> bool:
    """Whether it is an SGLang that answered."""
    return _info(answers) is not None


def statement(answers: Answers, host: str) -> Statement:
    models = models_of(answers[MODELS])
    info = _info(answers)
    base = next((model for model in models if model.parent is None), None)
    if info is None or base is None:
        raise no_model(answers[MODELS], KIND)
    config = _config(info)
    page = (info.kv_events.block_size if info.kv_events else 0) or info.page_size or 0
    dtype = info.kv_cache_dtype or ""
    return Statement(
        kind=KIND,
        model=base.id,
        version=info.version,
        root=info.tokenizer_path or info.model_path,
        adapters=tuple(model.id for model in models if model.parent is not None),
        max_model_len=base.max_model_len or info.context_length or 0,
        block_size=page,
        kv_blocks=info.dp_size * ((info.max_total_num_tokens or 0) // page) if page else 0,
        kv_dtype="" if dtype == "auto" else dtype,
        places=_places(info, config, host),
        has_prefix_cache=not info.disable_radix_cache,
        keeps_salts_apart=None,  # it skips what it does not know, and older ones know no salts
        are_adapters_told=config.format == _NAMES_ADAPTERS,
        ranks=info.dp_size,
        reasoning_parser=info.reasoning_parser or "",
    )


def numbers(page: bytes) -> EngineNumbers:
    """It counts no steps, and its page is there only with `--enable-metrics`."""
    found = by_label(samples(page, [_RUNNING, _WAITING, _USAGE]), "dp_rank")
    ranks = tuple(
        RankNumbers(
            running=int(rank.get(_RUNNING, 0.0)),
            waiting=int(rank.get(_WAITING, 0.0)),
            kv_usage=rank.get(_USAGE, 0.0),
        )
        for rank in found
    )
    return EngineNumbers(ranks)


def _info(answers: Answers) -> _Info | None:
    for path in (INFO, OLD_INFO):
        answer = answers.get(path, Answer(0))
        try:
            if answer.is_ok:
                return msgspec.json.decode(answer.body, type=_Info)
        except msgspec.MsgspecError:
            continue
    return None


def _config(info: _Info) -> _EventsConfig:
    try:
        return msgspec.json.decode(info.kv_events_config or "{}", type=_EventsConfig)
    except msgspec.MsgspecError:
        return _EventsConfig()


def _places(info: _Info, config: _EventsConfig, host: str) -> tuple[EventPlace, ...]:
    """By rank. None: it sends no events, or says nothing of them."""
    told = info.kv_events
    if told is not None and told.publisher == "zmq":
        replay = told.replay_endpoint_port_base
        return tuple(
            EventPlace(
                rank,
                on_host(told.endpoint_host, told.endpoint_port_base + rank, host),
                on_host(told.endpoint_host, replay + rank, host) if replay else "",
                told.topic,
            )
            for rank in range(told.dp_size)
        )
    if config.publisher != "zmq":
        return ()
    return tuple(
        EventPlace(
            rank,
            of_rank(reachable(config.endpoint, host), rank),
            of_rank(reachable(config.replay_endpoint or "", host), rank),
            config.topic,
            connects_to(config.endpoint),
        )
        for rank in range(info.dp_size)
    )
