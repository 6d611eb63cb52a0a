"""trust: how a process proves itself to another, and whom it believes.

Owns PEM files on their way into TLS, read again when they change; the key pairs of event sockets;
and the making of certificates. Never binds or connects: whoever does gets what it needs from an
`Identity`. A leaf: it imports no other room.

The way in: `Identity` (`identity.py`); `Authority` (`authority.py`) for whoever makes certificates.

    identity.py      `Identity`: what one process shows and whom it trusts, for ssl and gRPC
    pem_files.py     `PemFiles`: which files, and what settings named them
    event_keys.py    `EventKeys`: a key pair for ZeroMQ's CURVE, for one life of a process
    authority.py     `Authority`: signs certificates of routers and workers
    cert_folder.py   what `radixroute certs` writes, and reads when it renews
    errors.py        errors, by what their reader can do
"""
