"""What the demo compares, and how large each worker's KV pool is for it.

The pool is a share of the working set: all distinct blocks of the workload. With the whole of it in
each cache no policy could lose; with none of it none could win. Two workers together hold somewhat
more than everything once, and by far not everything twice.
"""

import datetime
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from radixroute.demo.errors import BadPlan
from radixroute.demo.machine import cpu_flags
from radixroute.demo.workload.chats import Workload
from radixroute.radix.ids import Tokens
from radixroute.replay.analysis.infinite_cache import Ceiling, Exchange, ceiling
from radixroute.request.chat import ChatMessage
from radixroute.worker.model.kv.formats import FORMATS
from radixroute.worker.model.registry import load_config

POLICIES = ("round_robin", "random", "radix")
BASELINE, OURS = POLICIES[0], POLICIES[-1]
POOL_SHARES = (0.50, 0.70)  # of the working set, per worker: outside, the comparison says little
EXPECTED_GAIN = 0.15  # hit rate of OURS above BASELINE: what the README promises
EXPECTED_TTFT = 0.80  # mean TTFT of OURS over that of BASELINE


class ChatTokenizer(Protocol):
    """Token ids exactly as the router makes them."""

    def encode(self, text: str) -> Tokens: ...

    def encode_chat(
        self, messages: Sequence[ChatMessage], *, today: datetime.date | None = None
    ) -> Tokens: ...


@dataclass(frozen=True, slots=True)
class DemoPlan:
    """Sizes of one demo."""

    workers: int = 2
    # Odd: with a multiple of the workers round robin would find each worker equally loaded.
    in_flight: int = 9
    pool_share: float = 0.55
    block_size: int = 16  # tokens
    policies: tuple[str, ...] = POLICIES

    def __post_init__(self) -> None:
        if self.in_flight % self.workers == 0:
            raise BadPlan(
                f"{self.in_flight} in flight is a multiple of {self.workers} workers: take another"
            )


def planned_working_set(workload: Workload, tokenizer: ChatTokenizer, block_size: int) -> Ceiling:
    """The workload's totals before it ran: every answer as long as it may become."""
    exchanges = []
    for chat in workload.chats:
        answers: list[str] = []
        for turn in chat.turns:
            prompt = tokenizer.encode_chat(chat.messages(answers), today=datetime.date.today())
            answers.append(" word" * turn.max_tokens)
            exchanges.append(Exchange(prompt, tokenizer.encode(answers[-1])))
    return ceiling(exchanges, block_size)


def kv_memory(model: Path, blocks: int, block_size: int, dtype: str) -> int:
    """Bytes of a pool of `blocks`: K and V of every layer."""
    return blocks * block_size * load_config(model).layout.bytes_per_token(FORMATS[dtype])


def demo_dtype() -> str:
    """bfloat16 where the CPU computes with it, else float32: what `dtype: auto` means."""
    return "bfloat16" if {"amx_bf16", "avx512_bf16"} & cpu_flags() else "float32"


@dataclass(frozen=True, slots=True)
class Sizes:
    """One pool for all workloads of a demo, and what it is a share of."""

    working_sets: tuple[int, ...]  # distinct blocks of each workload, as planned
    pool_blocks: int  # per worker
    kv_memory: int  # bytes per worker
    dtype: str

    @property
    def shares(self) -> tuple[float, ...]:
        return tuple(self.pool_blocks / blocks for blocks in self.working_sets)


def size_up(
    workloads: Sequence[Workload], plan: DemoPlan, tokenizer: ChatTokenizer, model: Path
) -> Sizes:
    """Raises `BadPlan` when one pool cannot fit all workloads."""
    sets = tuple(
        planned_working_set(workload, tokenizer, plan.block_size).distinct_blocks
        for workload in workloads
    )
    pool = round(plan.pool_share * sum(sets) / len(sets))
    dtype = demo_dtype()
    sizes = Sizes(sets, pool, kv_memory(model, pool, plan.block_size, dtype), dtype)
    low, high = POOL_SHARES
    if not all(low <= share <= high for share in sizes.shares):
        raise BadPlan(f"pool shares {sizes.shares} are outside {low} to {high}")
    return sizes
