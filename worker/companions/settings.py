"""Settings of companions: a frozen record with its defaults and units, and nothing else.

One record serves all engines of a fleet: what differs between them, an engine says itself. Given by
whoever runs companions; what cannot be found out over HTTP, and what an engine may lack.
"""

from dataclasses import dataclass

from radixroute.worker.errors import BadSetting

DIALECTS = ("auto", "vllm", "sglang", "openai")
SECTION = "companion"


@dataclass(frozen=True, slots=True)
class CompanionSettings:
    """How companions find, check and watch their engines."""

    dialect: str = "auto"  # vllm, sglang, openai, or auto: found out of each engine
    # Folder with the engine's tokenizer and config.json; empty: the one the engine itself names.
    model: str = ""
    events: str = ""  # tcp://HOST:PORT of the engine's events; empty: as it says itself
    replay: str = ""  # and of its replay endpoint
    allow_no_events: bool = False  # serve an engine whose cache can only be believed
    allow_no_replay: bool = False  # what it cached before we listened stays unknown
    allow_no_cached_tokens: bool = False  # nothing to hold its events against
    block_size: int = 0  # tokens; 0: the engine's word, which must be there
    kv_blocks: int = 0  # 0: the engine's word
    max_model_len: int = 0  # tokens; 0: the engine's word, which must be there
    # Where a cache is believed: blocks that are at most, 0: its pool, else 16,384; and for how long
    # after they were used last.
    believed_blocks: int = 0
    believed_s: float = 600.0
    max_num_seqs: int = 0  # requests that run at once; 0: not known
    max_num_batched_tokens: int = 0  # tokens in one step; 0: not known
    max_waiting: int = 0  # its --max-num-queued-reqs: requests beyond those that run; 0: none
    kv_dtype: str = ""  # of the KV cache, such as bfloat16; empty: the engine's, else config.json's
    fingerprint: str = ""  # of the model, hexadecimal; empty: of its name, config and tokenizer
    api_key_file: str = ""  # of the engine's --api-key
    ca_file: str = ""  # whom to believe behind https; empty: the system's list
    start_timeout_s: float = 600.0  # an engine may still load its model
    connect_timeout_s: float = 5.0
    poll_s: float = 0.5  # between two looks at an engine that should move
    progress_timeout_s: float = 30.0  # an engine with work that makes no step for so long is dead

    def __post_init__(self) -> None:
        if self.dialect not in DIALECTS:
            self._refuse("dialect", f"{self.dialect!r} is none; use {', '.join(DIALECTS)}")
        for name in (
            "block_size",
            "kv_blocks",
            "max_model_len",
            "believed_blocks",
            "max_num_seqs",
            "max_num_batched_tokens",
        ):
            if getattr(self, name) < 0:
                self._refuse(name, "is negative; use 0 for what the engine says")
        if self.max_waiting < 0:
            self._refuse("max_waiting", "is negative; use 0 or more")
        for name in (
            "believed_s",
            "start_timeout_s",
            "connect_timeout_s",
            "poll_s",
            "progress_timeout_s",
        ):
            if not getattr(self, name) > 0:
                self._refuse(name, "must be greater than 0 seconds")
        if self.replay and not self.events:
            self._refuse("replay", "needs companion.events beside it")

    def _refuse(self, name: str, problem: str) -> None:
        raise BadSetting(name, problem, section=SECTION)
