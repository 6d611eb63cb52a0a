"""Settings of one router: a frozen record with its defaults and units, and nothing else.

Owned by whoever starts the router; the config file and the command line are built from the fields.
Never reads the environment, never imports anything heavy.
"""

from dataclasses import dataclass, field

from radixroute.router.errors import BadSetting

MIN_INDEX_BYTES = 1 << 20


@dataclass(frozen=True, slots=True)
class RouterSettings:
    """How one router listens, chooses, waits and gives up."""

    host: str = "127.0.0.1"
    port: int = 50051  # 0: one the system picks, reported by start()
    # Of GET /metrics, at the same host; 0: one the system picks, as where another process has this
    # one; None: no page. What it came to is in the log, in `RouterInfo` and shown by `up`.
    metrics_port: int | None = 9464
    # Of the OpenAI API over HTTP, at the same host; 0: one the system picks; None: no such door.
    http_port: int | None = 8000
    # Allow a host that others can reach without both `keys_file` and `tls_cert_file`.
    insecure_bind: bool = False
    policy: str = "radix"
    seed: int = 0  # of ties and random choices: the same inputs then give the same choices
    router_id: str = ""  # empty: drawn at start; workers report load under it
    model: str = ""  # served model; empty: that of the first worker that joins
    block_size: int = 0  # tokens; 0: that of the first worker that joins
    cluster_secret: str = field(default="", repr=False)  # salts block keys; same on every worker
    # False: a tenant's prompts find cached blocks of its own alone, as if each had a salt.
    tenants_share_cache: bool = True
    suspect_after_s: float = 1.0  # heartbeats come each 0.25 s: four lost ones
    dead_after_s: float = 3.0  # a loaded machine must not declare healthy workers dead
    stuck_suspect_after_s: float = 5.0  # no engine step finished: a long one takes about a second
    stuck_dead_after_s: float = 30.0  # a compile or a swapped-out machine may take this long
    no_worker_wait_s: float = 5.0  # how long a request waits for any worker
    request_timeout_s: float = 600.0  # hard end of a request whose client set no deadline
    lease_ttl_s: float = 30.0  # of a lease whose client its worker has seen
    lease_unseen_s: float = 2.0  # of one whose client its worker never saw
    expected_ttl_s: float = 30.0  # a dispatched prompt whose blocks never show up by then is lost
    # A policy without cache events believes so long that a worker holds what it sent there, as far
    # as there is room. On the conversation trace 120 s (Dynamo's without events) cost a quarter of
    # the reuse, and 300 s or more nothing.
    learned_ttl_s: float = 600.0
    index_bytes: int = 2 << 30  # at most; taken as the index fills: 40 million blocks of one worker
    # A waiting prompt goes to its worker so long before that one is done with what it has: dispatch
    # takes time, and a worker must not idle while requests wait.
    dispatch_lead_ms: float = 3.0
    client_policies: str = "*"  # that clients may name, besides `policy`: with commas; "*": any
    max_waiting: int = 4096  # requests waiting for a worker
    max_waiting_tokens: int = 64_000_000  # prompt tokens of them
    # What is in the house: being tokenised, waiting, running or leased.
    max_in_flight: int = 4096  # requests
    max_in_flight_bytes: int = 512 << 20  # of prompts as they came
    max_in_flight_tokens: int = 128_000_000  # guessed from the bytes until they are known
    priority_age_s: float = 30.0  # a request that waited so long goes one band ahead
    decision_log_len: int = 4096  # requests whose decisions Explain can still show
    # At most of these: some 130 bytes a decision and worker, so that all fit up to 100 workers.
    decision_log_bytes: int = 64 << 20
    # Ended requests with the keys of their prompts, for `radixroute replay capture`: 8 bytes a
    # block and some 300 a request.
    request_log_bytes: int = 64 << 20
    # Token ids of prompts that were tokenised lately: what a chat's next turn has of them is not
    # tokenised again. In bytes, of which half are the router's own and a quarter each of two
    # processes that read giant prompts; 0: nothing is remembered.
    memo_bytes: int = 64 << 20
    memo_idle_s: float = 1800.0  # what nobody asks for so long is forgotten
    client_unread_timeout_s: float = 60.0  # a client that reads nothing for so long is gone
    max_message_bytes: int = 16 * 1024 * 1024  # of a request, at either door
    max_header_bytes: int = 16 * 1024  # of a request over HTTP
    http_idle_s: float = 75.0  # a connection on which nothing is asked is closed
    http_max_connections: int = 4096
    # A stream over HTTP that has nothing to tell for so long gets a comment as a sign of life, with
    # its head, if that was not sent yet; 0: never. Until then an error has its own status.
    http_sign_s: float = 10.0
    # Of `name:key` lines; read again when it changes. Both doors then want `Authorization: Bearer
    # KEY`, and the key's name is the tenant. Empty: whoever can reach the router may ask.
    keys_file: str = ""
    # A certificate and its key, as PEM: both doors then speak TLS. Read again when they change, as
    # are those of links.
    tls_cert_file: str = ""
    tls_key_file: str = ""
    # Of who signed the workers' certificates, as PEM: links then speak TLS with workers that prove
    # themselves, and with no others.
    link_ca_file: str = ""
    # What the router shows its workers; empty: what it shows at its doors.
    link_cert_file: str = ""
    link_key_file: str = ""
    # A name that every worker's certificate has; empty: the address at which it is come to. For
    # machines whose addresses nobody knows before they are there.
    link_name: str = ""
    # Fields that reach into an engine and are dropped from what clients send over HTTP, but for
    # those named here: `cache_salt`, `priority`; with commas.
    http_client_fields: str = ""
    # Ask an engine for the tokens of a prompt that only it can read (tools), so that the request
    # goes where its prefix is; no: by load alone.
    render_verbatim: bool = True
    # Where a client over HTTP says nothing of sampling: `model`, what the model's own
    # generation_config.json says, as vLLM does; `ours`, the defaults of the gRPC door.
    generation_config: str = "model"
    chunk_tokens: int = 65536  # prompt tokens in one message to a worker
    reconnect_min_s: float = 0.1
    reconnect_max_s: float = 2.0
    connect_timeout_s: float = 5.0

    def __post_init__(self) -> None:
        for name in _POSITIVE:
            if not getattr(self, name) > 0:
                raise BadSetting(name, "must be greater than 0")
        for name in ("port", "block_size", "dispatch_lead_ms", "memo_bytes", "http_sign_s"):
            if getattr(self, name) < 0:
                raise BadSetting(name, "must not be negative")
        for name, without in _PORTS:
            port = getattr(self, name)
            if port is not None and not 0 <= port <= 65535:
                raise BadSetting(name, f"is not a port; use 0 to 65535{without}")
        self._check_tls()
        if self.generation_config not in ("model", "ours"):
            raise BadSetting("generation_config", "is `model` or `ours`")
        if self.index_bytes < MIN_INDEX_BYTES:
            raise BadSetting("index_bytes", f"must be at least {MIN_INDEX_BYTES}")
        self._check_order()

    def _check_tls(self) -> None:
        for which in ("tls", "link"):
            pair = f"{which}_cert_file", f"{which}_key_file"
            if bool(getattr(self, pair[0])) != bool(getattr(self, pair[1])):
                raise BadSetting(pair[0], f"needs {pair[1]}, and the other way round")
        if self.link_ca_file and not (self.link_cert_file or self.tls_cert_file):
            raise BadSetting("link_ca_file", "needs link_cert_file or tls_cert_file, for workers")
        for name in ("link_cert_file", "link_name"):
            if getattr(self, name) and not self.link_ca_file:
                raise BadSetting(name, "needs link_ca_file: without it links speak no TLS")

    def _check_order(self) -> None:
        for low, high in _ORDERED:
            if getattr(self, low) > getattr(self, high):
                raise BadSetting(low, f"must not be greater than {high}")


_PORTS = (
    ("port", ""),
    ("metrics_port", ", or none for no page"),
    ("http_port", ", or none for no door"),
)
_POSITIVE = (
    "suspect_after_s",
    "dead_after_s",
    "stuck_suspect_after_s",
    "stuck_dead_after_s",
    "no_worker_wait_s",
    "request_timeout_s",
    "lease_ttl_s",
    "lease_unseen_s",
    "expected_ttl_s",
    "learned_ttl_s",
    "max_waiting",
    "max_waiting_tokens",
    "max_in_flight",
    "max_in_flight_bytes",
    "max_in_flight_tokens",
    "priority_age_s",
    "decision_log_len",
    "decision_log_bytes",
    "request_log_bytes",
    "memo_idle_s",
    "client_unread_timeout_s",
    "max_message_bytes",
    "max_header_bytes",
    "http_idle_s",
    "http_max_connections",
    "chunk_tokens",
    "reconnect_min_s",
    "reconnect_max_s",
    "connect_timeout_s",
)
_ORDERED = (
    ("suspect_after_s", "dead_after_s"),
    ("lease_unseen_s", "lease_ttl_s"),
    ("stuck_suspect_after_s", "stuck_dead_after_s"),
    ("reconnect_min_s", "reconnect_max_s"),
)
