"""Settings of one worker: a frozen record with its defaults and units, and nothing else.

Owned by whoever starts the worker; the config file and the command line are built from the fields.
Never reads the environment, never imports anything heavy. What can be judged without a model or a
machine is checked here; the engine process checks the rest when it starts.
"""

from collections.abc import Collection
from dataclasses import dataclass, field

from radixroute.radix.tree.eviction import EVICTION_POLICIES, LRU
from radixroute.worker.errors import BadSetting

DEVICES = ("auto", "cpu", "cuda")
DTYPES = ("auto", "float32", "bfloat16")
KV_DTYPES = ("auto", "float32", "bfloat16", "float16", "int8", "fp8_e4m3")
NUMERICS = ("fast", "invariant")
PREEMPTION_ORDERS = ("youngest", "least_computed")


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """One worker: its model, its KV pool, how it batches and where it listens."""

    worker_id: str = "worker-0"
    model: str = ""  # a Hugging Face directory or a .gguf file
    served_model_name: str = ""  # empty: the last part of the model's path
    device: str = "auto"  # auto, cpu or cuda; auto takes cuda where there is one
    dtype: str = "auto"  # auto: bfloat16 where the CPU has AMX or AVX-512 bf16, else float32
    # Of the KV pool: float32, float16, bfloat16, int8 (a scale a token and head) or fp8_e4m3; auto:
    # what the model is computed in. The same on every worker of a cluster.
    kv_dtype: str = "auto"
    # fast: torch's own kernels, whose last bits depend on a step's shape. invariant: a token's
    # logits depend on its prefix alone, to the last bit; float32 on a CPU, slower (docs/usage.md).
    numerics: str = "fast"
    block_size: int = 16  # tokens; the same on every worker of a cluster
    kv_memory: int = 512 * 1024 * 1024  # bytes of the KV pool
    max_model_len: int = 0  # tokens, prompt and output; 0: the model's limit or the pool's
    max_num_seqs: int = 64  # requests that run at once
    max_num_batched_tokens: int = 512  # tokens in one step; about 0.3 s of one CPU core with 135 M
    watermark: float = 0.01  # share of the pool left free when a request is admitted; as in vLLM
    preemption_order: str = "youngest"  # youngest, or least_computed: who gives way first
    eviction_policy: str = (
        LRU  # lru, slru, lfu or cost: what leaves a full cache (docs/eviction.md)
    )
    max_waiting: int = 1024  # requests queued before a submit is refused
    # On a CPU: a second copy of the weights in the layout that batches and prompts compute faster
    # with (1.3 to 2 times); false halves their memory.
    packed_weights: bool = True
    torch_threads: int = 1  # two workers with two threads each on two cores collapse (measured)
    host: str = "127.0.0.1"
    port: int = 0  # gRPC; 0: one the system picks, announced through membership
    session_port: int = 0  # of worker sessions in plain frames; 0: one the system picks, announced
    # Folder of a Unix socket for those sessions instead: for a router on the same machine, run by
    # the same user. Empty: TCP.
    session_dir: str = ""
    # Of GET /metrics, at the same host; None: no page; 0: one the system picks, announced as `port`
    # is: workers share their settings and often a machine, and one number fits one of them.
    metrics_port: int | None = 0
    insecure_bind: bool = False  # allow a host that others can reach, without credentials
    # A certificate, its key, and of who signed the routers' ones, as PEM: gRPC, sessions and events
    # are then for routers that prove themselves, and encrypted. Read again when they change.
    tls_cert_file: str = ""
    tls_key_file: str = ""
    tls_ca_file: str = ""
    # Events in vLLM's form as well, for other routers: token ids, so prompts, in the clear.
    events_compat: bool = False
    cluster_secret: str = field(default="", repr=False)  # salts block keys; same on every worker
    incarnation: int = 0  # given by the controller at each start; part of the epoch
    unread_timeout_s: float = 10.0  # a worker session not read for so long loses its requests
    max_message_bytes: int = 16 * 1024 * 1024

    def __post_init__(self) -> None:
        _one_of("device", self.device, DEVICES)
        _one_of("dtype", self.dtype, DTYPES)
        _one_of("kv_dtype", self.kv_dtype, KV_DTYPES)
        _one_of("numerics", self.numerics, NUMERICS)
        _must_allow(self.numerics, self)
        _one_of("preemption_order", self.preemption_order, PREEMPTION_ORDERS)
        _one_of("eviction_policy", self.eviction_policy, EVICTION_POLICIES)
        for name in ("block_size", "kv_memory", "max_num_seqs", "max_num_batched_tokens"):
            _at_least(name, getattr(self, name), 1)
        for name in ("max_waiting", "torch_threads"):
            _at_least(name, getattr(self, name), 1)
        for name in ("max_model_len", "port", "incarnation"):
            _at_least(name, getattr(self, name), 0)
        if not self.worker_id:
            raise BadSetting("worker_id", "is empty; give each worker a name of its own")
        for name in ("port", "session_port"):
            if not 0 <= getattr(self, name) <= 65535:
                raise BadSetting(name, f"{getattr(self, name)} is not a port; use 0 to 65535")
        if self.metrics_port is not None and not 0 <= self.metrics_port <= 65535:
            raise BadSetting(
                "metrics_port", f"{self.metrics_port} is not a port; use 0 to 65535, or none"
            )
        if not 0.0 <= self.watermark < 1.0:
            raise BadSetting("watermark", f"{self.watermark} is not a share; use 0 up to below 1")
        _all_or_none(self, "tls_cert_file", "tls_key_file", "tls_ca_file")
        if self.unread_timeout_s <= 0:
            raise BadSetting("unread_timeout_s", "must be greater than 0 seconds")


def _must_allow(numerics: str, settings: WorkerSettings) -> None:
    if numerics != "invariant":
        return
    if settings.device == "cuda":
        raise BadSetting("device", "is cuda, but numerics = invariant computes on a CPU: use cpu")
    if settings.dtype == "bfloat16":
        raise BadSetting("dtype", "is bfloat16, but numerics = invariant needs float32")
    if settings.torch_threads != 1:
        # Products are cut among threads by their size: measured, a row's last bits follow.
        raise BadSetting(
            "torch_threads",
            f"{settings.torch_threads} is too many for numerics = invariant: use 1, and a worker "
            "for each core",
        )


def _one_of(name: str, value: str, allowed: Collection[str]) -> None:
    if value not in allowed:
        raise BadSetting(name, f"{value!r} is not known; use one of {', '.join(allowed)}")


def _all_or_none(settings: WorkerSettings, *names: str) -> None:
    missing = [name for name in names if not getattr(settings, name)]
    if missing and len(missing) < len(names):
        raise BadSetting(missing[0], f"is empty; {', '.join(names)} go together")


def _at_least(name: str, value: int, least: int) -> None:
    if value < least:
        raise BadSetting(name, f"{value} is too small; use {least} or more")
