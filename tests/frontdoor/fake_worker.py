"""A worker that says who it is over gRPC and publishes events over ZeroMQ, both on loopback."""

from concurrent import futures
from contextlib import contextmanager
from dataclasses import dataclass

import grpc

from radixroute.events.publish.publisher import EventPublisher
from radixroute.events.settings import PublisherSettings
from radixroute.events.wire.epoch import epoch_to_hex, make_epoch
from radixroute.protos import API_VERSION
from radixroute.protos import radixroute_pb2 as pb
from radixroute.protos import radixroute_pb2_grpc as rpc

FAST = PublisherSettings(heartbeat_interval_s=0.02, snapshot_part_blocks=16)


@dataclass
class FakeWorker(rpc.EngineServicer):
    worker_id: str = "worker-0"
    incarnation: int = 1
    api_version: int = API_VERSION
    address: str = ""

    def begin_life(self):
        """A new epoch, at new endpoints, with an empty cache."""
        self.epoch = make_epoch(self.incarnation, b"noncenon")
        self.publisher = EventPublisher(self.epoch, FAST)
        self.publisher.start()
        self.incarnation += 1

    def GetInfo(self, request, context):
        endpoints = self.publisher.endpoints
        return pb.GetInfoResponse(
            api_version=self.api_version,
            worker_id=self.worker_id,
            epoch=epoch_to_hex(self.epoch),
            model="tiny",
            block_size=16,
            events_endpoint=endpoints.events,
            replay_endpoint=endpoints.control,
            ranks=1,
        )


@contextmanager
def fake_worker(**fields):
    worker = FakeWorker(**fields)
    worker.begin_life()
    server = grpc.server(futures.ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
    rpc.add_EngineServicer_to_server(worker, server)
    worker.address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    try:
        yield worker
    finally:
        server.stop(0).wait()
        worker.publisher.stop()
