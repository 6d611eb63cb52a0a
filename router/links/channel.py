"""Options of every gRPC channel and server of the router. Owns the reasons for them."""

# One subchannel a channel: a global pool would keep a dead address's backoff for the next attempt.
_LOCAL_POOL = ("grpc.use_local_subchannel_pool", 1)
# Retries are the core's: gRPC's own could run a request twice.
_NO_RETRIES = ("grpc.enable_retries", 0)
# A second process on the same port must fail, not share it silently.
_NO_REUSE = ("grpc.so_reuseport", 0)


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Towards workers."""
    return [*_sizes(max_message_bytes), _LOCAL_POOL, _NO_RETRIES]


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Towards clients."""
    return [*_sizes(max_message_bytes), _NO_REUSE]


def _sizes(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]
