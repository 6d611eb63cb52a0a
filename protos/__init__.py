"""protos: `radixroute.v1`, the wire contract and its generated stubs.

Owns the messages and services that clients, routers and workers share. Only added to within v1;
numbers are reserved, never used again. `make proto` writes the stubs, CI compares them.

The way in: `radixroute.proto`.

    radixroute.proto         the contract, with what each field promises
    frames.py                a worker session's messages on a plain byte stream
    radixroute_pb2.py        generated: messages
    radixroute_pb2.pyi       generated: their types
    radixroute_pb2_grpc.py   generated: services
"""

# Raised when a message or a promise of v1 is added; exchanged at join and at session open.
API_VERSION = 1
