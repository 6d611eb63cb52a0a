"""What a worker says of itself when a router joins it: its answer to `GetInfo`. Pure."""

import secrets
from dataclasses import dataclass
from typing import Final

from radixroute import __version__
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.epoch import epoch_to_hex
from radixroute.events.wire.records import Epoch
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.request.tokenizer import Tokenizer
from radixroute.worker.engine.engine import EngineInfo
from radixroute.worker.engine.inference import engine_scope
from radixroute.worker.settings import WorkerSettings

# Of this process, whose workers end with it. Never its number, which another one has later.
_PROCESS: Final = secrets.token_hex(8)


@dataclass(frozen=True, slots=True)
class Places:
    """Where a worker's streams and pages are."""

    sessions: str  # in plain frames
    events: Endpoints
    compat: Endpoints | None  # None: not offered
    metrics_address: str  # empty: no page


def describe(
    settings: WorkerSettings, info: EngineInfo, tokenizer: Tokenizer, epoch: Epoch, places: Places
) -> pb.GetInfoResponse:
    scope = engine_scope(settings, info)
    compat = places.compat or Endpoints("", "")
    return pb.GetInfoResponse(
        api_version=API_VERSION,
        version=__version__,
        worker_id=settings.worker_id,
        epoch=epoch_to_hex(epoch),
        model=info.model,
        block_size=info.block_size,
        max_model_len=info.max_model_len,
        vocab_size=info.vocab_size,
        eos_token_ids=info.eos_token_ids,
        scope_fingerprint=scope.fingerprint,
        tokenizer_fingerprint=tokenizer.fingerprint,
        kv_blocks_total=info.kv_blocks_total,
        max_num_seqs=info.max_num_seqs,
        max_waiting=settings.max_waiting if info.max_waiting is None else info.max_waiting,
        max_num_batched_tokens=info.max_num_batched_tokens,
        session_endpoint=places.sessions,
        events_endpoint=places.events.events,
        replay_endpoint=places.events.control,
        ranks=info.ranks,
        scope=pb.Scope(
            model_fingerprint=scope.model_fingerprint, kv_dtype=scope.kv_dtype, lora=scope.lora
        ),
        dtype=info.dtype,
        device=info.device,
        compat_events_endpoint=compat.events,
        compat_replay_endpoint=compat.control,
        metrics_address=places.metrics_address,
        adapters=info.adapters,
        engine_kind=info.kind,
        resent_is_prompt=info.resent_is_prompt,
        cannot_resume=info.cannot_resume,
        takes_verbatim=info.takes_verbatim,
        cache_is_believed=info.is_cache_believed,
        process=_PROCESS,
        events_key=places.events.key,
    )
