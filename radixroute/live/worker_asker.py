"""Worker asker: what workers say of themselves, asked as their router would.

Owns the gRPC channels to them. Where links speak TLS it shows what the router shows: whoever may
read those files may ask.
"""

from typing import Any

import grpc

from radixroute.client import OPTIONS
from radixroute.errors import BadConfig
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc
from radixroute.router.errors import RouterError
from radixroute.router.identities import link_identity
from radixroute.router.settings import RouterSettings
from radixroute.trust.event_keys import EventKeys

_STUBS: Any = radixroute_pb2_grpc  # generated without annotations


class WorkerAsker:
    """Of one fleet."""

    def __init__(self, router: RouterSettings) -> None:
        """`router`: as its own settings are. Raises `BadConfig`."""
        try:
            self._identity = link_identity(router)
        except RouterError as error:
            raise BadConfig(str(error)) from error
        self._name = router.link_name
        self._channels: dict[str, grpc.Channel] = {}

    @property
    def event_keys(self) -> EventKeys | None:
        """With which events can be listened to, once their worker was asked; None: they are in the
        clear."""
        return None if self._identity is None else self._identity.event_keys

    def ask(self, address: str, timeout_s: float) -> pb.GetInfoResponse:
        """Raises `grpc.RpcError`."""
        channel = self._channels.get(address)
        if channel is None:
            channel = self._channels[address] = self._channel(address)
        keys = self.event_keys
        request = pb.GetInfoRequest(events_key=b"" if keys is None else keys.public)
        told: pb.GetInfoResponse = _STUBS.EngineStub(channel).GetInfo(request, timeout=timeout_s)
        return told

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()

    def _channel(self, address: str) -> grpc.Channel:
        if self._identity is None:
            return grpc.insecure_channel(address, options=OPTIONS)
        name = [("grpc.ssl_target_name_override", self._name)] if self._name else []
        credentials = self._identity.channel_credentials()
        return grpc.secure_channel(address, credentials, options=[*OPTIONS, *name])
