"""What every experiment works with: the models, the machine, and how much is to be done.

Frozen values; `quick` sizes make the whole lab take seconds, for tests and for a first look.
"""

from collections.abc import Callable
from dataclasses import dataclass

from radixroute.kv.lab.subjects import Subject

Tell = Callable[[str], None]  # one step of an experiment is done; what it was


@dataclass(frozen=True, slots=True)
class Effort:
    """How much is measured. Lengths in tokens, ascending."""

    uncached_lengths: tuple[int, ...]  # of steps that compute everything again
    cached_lengths: tuple[int, ...]
    answer: tuple[int, int]  # a prompt and an answer that each way computes whole
    reserved: int  # tokens that a contiguous cache reserves
    prefill_lengths: tuple[int, ...]
    variant_lengths: tuple[int, ...]
    text_tokens: int  # of the text that perplexity is measured on
    repeats: int
    requests: int  # of simulated mixes
    matrix: int  # rows and columns of the product that measures peak FLOPs
    stream_bytes: int  # read to measure bandwidth

    @property
    def usual_context(self) -> int:
        """Where one length stands for all: the middle one."""
        return self.cached_lengths[len(self.cached_lengths) // 2]


FULL = Effort(
    uncached_lengths=(16, 32, 64, 128, 256, 384),
    cached_lengths=(16, 64, 256, 512, 1024, 2048, 4096, 8000),
    answer=(256, 8),
    reserved=2048,
    prefill_lengths=(1, 4, 16, 64, 256, 512),
    variant_lengths=(64, 512, 2048, 8000),
    text_tokens=1024,
    repeats=5,
    requests=600,
    matrix=1536,
    stream_bytes=256 * 2**20,
)
QUICK = Effort(
    uncached_lengths=(16, 32, 64, 128),
    cached_lengths=(16, 64, 128, 240),
    answer=(48, 3),
    reserved=128,
    prefill_lengths=(1, 8, 64),
    variant_lengths=(16, 200),
    text_tokens=160,
    repeats=1,
    requests=250,
    matrix=256,
    stream_bytes=4 * 2**20,
)


@dataclass(frozen=True, slots=True)
class Machine:
    """What this machine can do, measured with the same threads as everything else."""

    name: str
    flops_per_s: float  # a large matrix product in float32
    bytes_per_s: float  # reading memory that no cache holds


@dataclass(frozen=True, slots=True)
class Bench:
    """Handed to each experiment."""

    subjects: tuple[Subject, ...]
    machine: Machine
    effort: Effort
    tell: Tell
    vllm: str = ""  # folder of an environment with vLLM; empty: none
