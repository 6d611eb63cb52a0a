"""What the orchestrating process and the clients' process say to one another."""

import msgspec


class Load(msgspec.Struct, kw_only=True):
    """`requests` by `clients` that each ask again when they have their answer."""

    way: str  # http, generate, route or route_stream
    port: int
    kind: str = "ids"  # of body, as `Bodies` has them
    clients: int
    requests: int
    max_tokens: int
    first: int  # number of the first body: none is asked twice


class Outcome(msgspec.Struct):
    """Of one load. `failed`: what one answer said that was an error; then nothing else counts."""

    seconds: float = 0.0
    answers: int = 0
    tokens: int = 0
    first_ms: list[float] = []  # from the request's last byte to the answer's first
    failed: str = ""
