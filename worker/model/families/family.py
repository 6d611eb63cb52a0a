"""The seam of a family: how its configuration is read, and the model that comes of it.

Owns the records and Protocols; no torch. `../registry.py` finds the family of a folder, the runner
builds its model over an attention backend.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from radixroute.worker.model.fields import Fields
from radixroute.worker.model.kv.layout import KVLayout

if TYPE_CHECKING:
    from torch import Tensor

    from radixroute.worker.model.attention.backend import AttentionBackend
    from radixroute.worker.model.layers.ops import Ops
    from radixroute.worker.model.weights import Weights


class Model(Protocol):
    """A loaded model. One call computes one step's tokens of all sequences, row after row."""

    def forward(
        self, token_ids: "Tensor", positions: "Tensor", attention: "AttentionBackend"
    ) -> "Tensor":
        """Hidden states after the last layer. Shapes: (n,), (n,) -> (n, hidden)."""
        ...

    def logits(self, hidden: "Tensor") -> "Tensor":
        """(n, hidden) -> (n, vocab), float32."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig(ABC):
    """Sizes that every model has. Lengths in tokens, widths in features."""

    n_layers: int
    hidden: int
    vocab_size: int
    max_position: int
    tied_embeddings: bool
    eos_token_ids: tuple[int, ...] = ()

    @property
    @abstractmethod
    def layout(self) -> KVLayout:
        """What a token keeps in the cache."""

    @abstractmethod
    def build(self, weights: "Weights", ops: "Ops") -> Model:
        """The model with its weights. Raises `ModelError` for any that are missing or strange."""


@dataclass(frozen=True, slots=True)
class Family:
    """Architectures, as `config.json` names them, and how a configuration of one is read."""

    architectures: tuple[str, ...]
    # Fields and architecture; without the end tokens, which are read alike for all. Raises
    # `ModelError` for what the family does not compute.
    read: Callable[[Fields, str], ModelConfig]
