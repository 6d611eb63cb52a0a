"""Measurements, run by hand: `make demo`, `make bench-engine`. Imported by nothing that ships."""

import os

# gRPC reads it when imported. Without it the end of a worker prints lines about connections that
# are closed on purpose.
os.environ.setdefault("GRPC_VERBOSITY", "ERROR")
