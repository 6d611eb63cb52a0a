"""Handshake: does this worker belong to the fleet? What its `GetInfo` says, checked.

Owns the fleet's facts, which the first worker that joins decides, and its tokenizer. A worker that
differs in anything that block keys or answers depend on is refused loudly: a silent mismatch would
show as a hit rate of zero, or as wrong text. `EngineLink` asks before it opens a session.
"""

import asyncio
from contextlib import suppress
from dataclasses import dataclass

from radixroute.events.errors import RemoteEventError
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.epoch import epoch_from_hex, incarnation_of
from radixroute.events.wire.records import Epoch
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc
from radixroute.radix.keys.scope import Scope
from radixroute.request.tokenizer import Tokenizer
from radixroute.router.errors import JoinRefused
from radixroute.router.links.tokenizer_fetch import fetch_tokenizer
from radixroute.router.messages.inputs import MemberSpec, WorkerFacts
from radixroute.router.settings import RouterSettings
from radixroute.trust.event_keys import raw_key


@dataclass(frozen=True, slots=True)
class FleetFacts:
    """What every worker of a fleet has in common; that of the first one that joins."""

    model: str
    block_size: int  # tokens
    max_model_len: int  # tokens
    vocab_size: int
    eos_token_ids: frozenset[int]
    scope: Scope
    scope_fingerprint: str
    tokenizer_fingerprint: str


@dataclass(frozen=True, slots=True)
class Served:
    """What a fleet serves: known once its first worker was accepted."""

    facts: FleetFacts
    tokenizer: Tokenizer


@dataclass(frozen=True, slots=True)
class Joined:
    """What an accepted worker said of itself."""

    facts: WorkerFacts
    epoch: Epoch
    endpoints: Endpoints  # of its event stream


class Handshake:
    """Lets workers in."""

    def __init__(self, settings: RouterSettings) -> None:
        self._settings = settings
        self._served: Served | None = None
        self._first = asyncio.Event()
        self._lock = asyncio.Lock()  # two first workers must not both decide what the fleet is

    @property
    def served(self) -> Served | None:
        """None: no worker has joined yet."""
        return self._served

    async def wait_served(self, timeout_s: float) -> Served | None:
        """The same, after some time for a first worker to join."""
        with suppress(TimeoutError):
            await asyncio.wait_for(self._first.wait(), timeout_s)
        return self._served

    async def admit(
        self, spec: MemberSpec, info: pb.GetInfoResponse, stub: rpc.EngineStub
    ) -> Joined:
        """Raises JoinRefused with the reason."""
        async with self._lock:
            known = None if self._served is None else self._served.facts
            fleet = check_join(info, spec, self._settings, known)
            if self._served is None:
                wanted = fleet.tokenizer_fingerprint
                timeout_s = self._settings.connect_timeout_s
                tokenizer = await fetch_tokenizer(stub, wanted, timeout_s=timeout_s)
                self._served = Served(fleet, tokenizer)
                self._first.set()
        endpoints = Endpoints(info.events_endpoint, info.replay_endpoint, info.events_key)
        return Joined(worker_facts(info, spec), read_epoch(info), endpoints)


def fleet_facts(info: pb.GetInfoResponse, settings: RouterSettings) -> FleetFacts:
    """The fleet that this worker would be part of, seen with this router's secret."""
    scope = Scope(
        model_fingerprint=info.scope.model_fingerprint,
        block_size=info.block_size,
        kv_dtype=info.scope.kv_dtype,
        lora=info.scope.lora,
        cluster_secret=settings.cluster_secret.encode(),
    )
    return FleetFacts(
        model=info.model,
        block_size=info.block_size,
        max_model_len=info.max_model_len,
        vocab_size=info.vocab_size,
        eos_token_ids=frozenset(info.eos_token_ids),
        scope=scope,
        scope_fingerprint=scope.fingerprint,
        tokenizer_fingerprint=info.tokenizer_fingerprint,
    )


def check_join(
    info: pb.GetInfoResponse,
    spec: MemberSpec,
    settings: RouterSettings,
    fleet: FleetFacts | None,
) -> FleetFacts:
    """What the fleet is with this worker in it. Raises JoinRefused with the reason."""
    _check_identity(info, spec)
    _check_events(info, settings)
    offered = fleet_facts(info, settings)
    _same("block size", offered.block_size, settings.block_size or offered.block_size)
    _same("model", offered.model, settings.model or offered.model)
    if offered.block_size < 1:
        raise JoinRefused("block size 0: the worker does not say how long its blocks are")
    if info.scope_fingerprint != offered.scope_fingerprint:
        raise JoinRefused(
            f"scope fingerprint {info.scope_fingerprint!r} is not {offered.scope_fingerprint!r}:"
            " give router and worker the same cluster_secret"
        )
    if fleet is None:
        return offered
    _same("block size", offered.block_size, fleet.block_size)
    _same("model", offered.model, fleet.model)
    _same("scope fingerprint", offered.scope_fingerprint, fleet.scope_fingerprint)
    _same("tokenizer fingerprint", offered.tokenizer_fingerprint, fleet.tokenizer_fingerprint)
    if offered.max_model_len < fleet.max_model_len:
        raise JoinRefused(
            f"max_model_len {offered.max_model_len} is below the fleet's {fleet.max_model_len}:"
            " a request could not move here"
        )
    return fleet


def worker_facts(info: pb.GetInfoResponse, spec: MemberSpec) -> WorkerFacts:
    """What the core wants to know of an accepted worker."""
    return WorkerFacts(
        worker_id=spec.worker_id,
        epoch=info.epoch,
        block_size=info.block_size,
        eos_token_ids=frozenset(info.eos_token_ids),
        kv_blocks_total=info.kv_blocks_total,
        max_batched_tokens=info.max_num_batched_tokens,
        max_num_seqs=info.max_num_seqs,
        max_waiting=info.max_waiting,
        ranks=max(1, info.ranks),
        process=info.process,
        compat=_compat(info),
        metrics_address=info.metrics_address,
        adapters=frozenset(info.adapters),
        resent_is_prompt=info.resent_is_prompt,
        cannot_resume=info.cannot_resume,
        takes_verbatim=info.takes_verbatim,
        is_cache_believed=info.cache_is_believed,
    )


def read_epoch(info: pb.GetInfoResponse) -> Epoch:
    try:
        return epoch_from_hex(info.epoch)
    except RemoteEventError as error:
        raise JoinRefused(f"epoch: {error}") from error


def _compat(info: pb.GetInfoResponse) -> Endpoints | None:
    if not info.compat_events_endpoint:
        return None
    return Endpoints(info.compat_events_endpoint, info.compat_replay_endpoint)


def _check_identity(info: pb.GetInfoResponse, spec: MemberSpec) -> None:
    _same("api version", info.api_version, API_VERSION)
    _same("worker id", info.worker_id, spec.worker_id)
    incarnation = incarnation_of(read_epoch(info))
    _same("incarnation", incarnation, spec.incarnation)


def _check_events(info: pb.GetInfoResponse, settings: RouterSettings) -> None:
    if info.events_key and raw_key(info.events_key) is None:
        raise JoinRefused("events key: it is no key of CURVE")
    if settings.link_ca_file and not info.events_key:
        raise JoinRefused("its events are in the clear, and router.link_ca_file asks for more")


def _same(what: str, offered: object, wanted: object) -> None:
    if offered != wanted:
        raise JoinRefused(f"{what} {offered!r} is not {wanted!r}")
