"""Options of every gRPC channel and server of the router. Owns the reasons for them."""

# One subchannel a channel: a global pool would keep a dead address's backoff for the next attempt.
_LOCAL_POOL = ("grpc.use_local_subchannel_pool", 1)
# Retries are the core's: gRPC's own could run a request twice.
_NO_RETRIES = ("grpc.enable_retries", 0)
# A second process on the same port must fail, not share it silently.
_NO_REUSE = ("grpc.so_reuseport", 0)

# Too many calls are answered by our own admission, with a reason and a counter: gRPC would cancel
# those above a thousand that nobody has looked at yet, without a word.
_OUR_ADMISSION = (
    ("grpc.server.max_pending_requests", 1 << 20),
    ("grpc.server.max_pending_requests_hard_limit", 1 << 20),
    ("grpc.server_max_unrequested_time_in_server", 3600),  # seconds
)
# A client whose machine vanished is noticed by pings, not after its deadline.
_KEEPALIVE = (
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.keepalive_permit_without_calls", 1),
)


def channel_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Towards workers."""
    return [*_sizes(max_message_bytes), _LOCAL_POOL, _NO_RETRIES]


def server_options(max_message_bytes: int) -> list[tuple[str, int]]:
    """Towards clients."""
    return [*_sizes(max_message_bytes), _NO_REUSE, *_OUR_ADMISSION, *_KEEPALIVE]


def _sizes(max_message_bytes: int) -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", max_message_bytes),
        ("grpc.max_send_message_length", max_message_bytes),
    ]
