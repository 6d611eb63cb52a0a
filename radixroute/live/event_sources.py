"""Sources of a recording: event streams, asked of the workers, or of a router for all of its own.

Owns, while a recording runs, the thread that asks again: a
worker that restarts has another epoch and other endpoints. Only what `GetInfo` says is believed.
"""

import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import grpc

from radixroute.client import RouterClient
from radixroute.errors import BadInput, FrontDoorError, NotRecorded
from radixroute.events.errors import RemoteEventError
from radixroute.events.recording.recording import RecordedScope, Source, Wire
from radixroute.events.wire.control import Endpoints
from radixroute.events.wire.epoch import epoch_from_hex
from radixroute.live.worker_asker import WorkerAsker
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.router.settings import RouterSettings
from radixroute.trust.event_keys import EventKeys

INFO_TIMEOUT_S = 5.0
LOOK_INTERVAL_S = 1.0
_STOP_TIMEOUT_S = 1.0
MAX_PORT = 65_535


@dataclass(frozen=True, slots=True)
class Found:
    """What there is to listen to, and what keys are salted with there."""

    sources: tuple[Source, ...]
    scope: RecordedScope


def engine_endpoints(
    events: Sequence[str], replays: Sequence[str] | None = None
) -> list[Endpoints]:
    """Where foreign engines publish and where they replay, which `none` says they do not.

    Without `replays` it is the next port: vLLM's and SGLang's examples have 5557 and 5558. Not one
    at which another of these engines publishes.
    """
    if replays is not None and len(replays) != len(events):
        raise BadInput(
            f"{len(events)} --vllm and {len(replays)} --vllm-replay: give one for each engine, in "
            "the same order, or none at all; an engine without a replay socket has 'none'"
        )
    names = [one.removeprefix("tcp://") for one in events]
    given = [_next_port(one, names) for one in names] if replays is None else replays
    return [
        Endpoints(f"tcp://{name}", "" if one == "none" else f"tcp://{one.removeprefix('tcp://')}")
        for name, one in zip(names, given, strict=True)
    ]


def _next_port(name: str, taken: Sequence[str]) -> str:
    host, _, port = name.rpartition(":")
    following = f"{host}:{int(port) + 1}"
    return "none" if following in taken or int(port) == MAX_PORT else following


class SourceFinder:
    """Finds sources by worker addresses, by ZeroMQ addresses of vLLM engines, or by a router."""

    def __init__(
        self,
        *,
        workers: Sequence[str] = (),
        vllm: Sequence[Endpoints] = (),
        router: RouterClient | None = None,
        asker: WorkerAsker | None = None,
        block_size: int = 0,
    ) -> None:
        """`asker`: None: workers are asked in the clear. `block_size`: of the engines, in tokens;
        0: what they store tells it. Closes what it was given."""
        self._workers = workers
        self._foreign = tuple(
            Source(
                one.events.removeprefix("tcp://"),
                1,
                Wire.FOREIGN,
                b"",
                one.events,
                one.control,
                block_size,
            )
            for one in vllm
        )
        self._router = router
        self._asker = WorkerAsker(RouterSettings()) if asker is None else asker
        # By what a router says of a worker: asked again only when that changes.
        self._known: dict[tuple[str, str, str], pb.GetInfoResponse] = {}
        self._named: dict[str, pb.GetInfoResponse] = {}  # by address; as they answered last

    @property
    def event_keys(self) -> EventKeys | None:
        """With which to listen; None: in the clear."""
        return self._asker.event_keys

    def find(self) -> Found:
        """Asks everybody. Raises `FrontDoorError` if somebody that was named does not answer."""
        self._named = {address: self._info(address) for address in self._workers}
        return self._found()

    def look(self) -> Found:
        """Asks everybody again; who does not answer now is taken to be as he was before."""
        for address in self._workers:
            with suppress(NotRecorded):
                self._named[address] = self._info(address)
        return self._found()

    def close(self) -> None:
        self._asker.close()
        if self._router is not None:
            self._router.close()

    def _found(self) -> Found:
        infos = list(self._named.values())
        if self._router is not None:
            infos += self._of_router(self._router)
        sources = (*map(_source_of, infos), *self._foreign)
        names = [source.worker for source in sources]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise BadInput(f"two workers call themselves {twice!r}: record them one by one")
        scope = _scope_of(infos[0]) if infos else RecordedScope()
        return Found(tuple(sources), scope)

    def _of_router(self, router: RouterClient) -> list[pb.GetInfoResponse]:
        listed = {
            (one.worker_id, one.address, one.epoch): one.address
            for one in router.list_workers().workers
            if one.address
        }
        self._known = {key: info for key, info in self._known.items() if key in listed}
        for key, address in listed.items():
            if key not in self._known:
                try:
                    self._known[key] = self._info(address)
                except NotRecorded:
                    continue  # a dead worker is listed until it is replaced; asked again next time
        return [self._known[key] for key in sorted(self._known)]

    def _info(self, address: str) -> pb.GetInfoResponse:
        try:
            info = self._asker.ask(address, INFO_TIMEOUT_S)
        except grpc.RpcError as error:
            raise NotRecorded(
                f"no worker answers at {address} ({_code(error)}): `radixroute workers` lists the"
                " workers' addresses; where they speak TLS set router.link_ca_file here, too"
            ) from error
        if info.api_version != API_VERSION:
            raise NotRecorded(
                f"the worker at {address} speaks API version {info.api_version}, this program "
                f"{API_VERSION}: install the same release on both"
            )
        return info


class Lookout:
    """Asks a finder again and again, in a thread of its own, and keeps the newest answer."""

    def __init__(self, finder: SourceFinder) -> None:
        self._finder = finder
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="source-lookout", daemon=True)
        self._latest: Found | None = None
        self.failures = 0  # times there was no answer: what was known before stays

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """Does not wait for who never answers: closing the finder ends that."""
        self._stopping.set()
        self._thread.join(_STOP_TIMEOUT_S)

    def take(self) -> Found | None:
        """The newest answer, once."""
        latest, self._latest = self._latest, None
        return latest

    def _run(self) -> None:
        while not self._stopping.wait(LOOK_INTERVAL_S):
            try:
                self._latest = self._finder.look()
            except FrontDoorError:
                self.failures += 1
            except ValueError:  # gRPC's word for a channel that was closed
                if not self._stopping.is_set():
                    raise


def _source_of(info: pb.GetInfoResponse) -> Source:
    try:
        epoch = epoch_from_hex(info.epoch)
    except RemoteEventError as error:
        raise NotRecorded(f"worker {info.worker_id}: {error}") from error
    if not info.events_endpoint or not info.replay_endpoint:
        raise NotRecorded(f"worker {info.worker_id} publishes no events")
    return Source(
        info.worker_id,
        max(1, info.ranks),
        Wire.NATIVE,
        epoch,
        info.events_endpoint,
        info.replay_endpoint,
        key=info.events_key,
    )


def _scope_of(info: pb.GetInfoResponse) -> RecordedScope:
    return RecordedScope(
        model=info.model,
        model_fingerprint=info.scope.model_fingerprint,
        kv_dtype=info.scope.kv_dtype,
        lora=info.scope.lora,
        block_size=info.block_size,
        fingerprint=info.scope_fingerprint,
    )


def _code(error: Any) -> str:
    return str(error.code().name)
