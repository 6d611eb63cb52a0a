"""KV plan: what a model's KV costs, what fits a memory, what sharing saves. Arithmetic alone.

Owns the formula, in numbers and in words. Blocks are counted whole, as the pool allocates them. No
torch, no files: `shape` reads those. Called by the command `kv plan` and whoever sizes a pool.

    bytes of a token = layers x planes x heads x (width x bytes of a value + bytes of a scale)
    bytes of n tokens = the blocks that hold them, without those that left the window
"""

from collections.abc import Sequence
from dataclasses import dataclass

from radixroute.worker.model.kv.formats import FORMATS, KVFormat
from radixroute.worker.model.kv.layout import KVLayout, KVPlane
from radixroute.worker.model.kv.shape import KVShape


@dataclass(frozen=True, slots=True)
class Sharing:
    """What one copy of a common prefix saves; in bytes."""

    n_users: int
    prefix_len: int
    apart: int  # every user with a copy of its own
    together: int

    @property
    def saved(self) -> int:
        return self.apart - self.together


@dataclass(frozen=True, slots=True)
class KVPlan:
    """One model's KV in one format and block size, in a memory that holds nothing else."""

    shape: KVShape
    kv_format: KVFormat
    block_size: int  # tokens
    memory: int  # bytes

    @property
    def bytes_per_token(self) -> int:
        return sum(token_bytes(layout, self.kv_format) for layout in self.shape.layouts)

    @property
    def block_bytes(self) -> int:
        """Of one block of all layers."""
        return self.bytes_per_token * self.block_size

    @property
    def n_blocks(self) -> int:
        """Whole blocks that fit."""
        return self.memory // self.block_bytes

    @property
    def n_tokens(self) -> int:
        """Tokens whose KV fits: of one long sequence or of many, as long as blocks are full."""
        return self.n_blocks * self.block_size

    def sequence_bytes(self, n_tokens: int) -> int:
        """Held by a sequence of so many tokens when its next one is computed."""
        return sum(
            len(live_blocks(n_tokens, self.block_size, layout.window)) * self._bytes_of(layout)
            for layout in self.shape.layouts
        )

    def sequences(self, n_tokens: int) -> int:
        """Sequences of that length that fit at once, nothing shared."""
        return self.memory // self.sequence_bytes(n_tokens)

    def sharing(self, n_users: int, prefix_len: int, n_tokens: int) -> Sharing:
        """Sequences of `n_tokens`, the first `prefix_len` of them common: full blocks are shared.

        Of a prefix that left the window nothing is held, so nothing is saved.
        """
        shared = sum(
            self._bytes_of(layout)
            * len(
                [
                    block
                    for block in live_blocks(n_tokens, self.block_size, layout.window)
                    if (block + 1) * self.block_size <= prefix_len
                ]
            )
            for layout in self.shape.layouts
        )
        apart = n_users * self.sequence_bytes(n_tokens)
        return Sharing(n_users, prefix_len, apart, apart - (n_users - 1) * shared)

    def formula(self) -> str:
        """Bytes of a token, with the numbers of this model."""
        terms = [_term(layout, self.kv_format) for layout in self.shape.layouts]
        return f"{' + '.join(terms)} = {self.bytes_per_token:,} bytes"

    def in_format(self, kv_format: KVFormat) -> "KVPlan":
        return KVPlan(self.shape, kv_format, self.block_size, self.memory)

    def _bytes_of(self, layout: KVLayout) -> int:
        return token_bytes(layout, self.kv_format) * self.block_size


def token_bytes(layout: KVLayout, kv_format: KVFormat) -> int:
    """Bytes of one token over all layers of a layout, scales included."""
    return layout.n_layers * sum(
        kv_format.bytes_of(plane.heads, plane.width) for plane in layout.planes
    )


def live_blocks(n_tokens: int, block_size: int, window: int | None) -> range:
    """Indices of the blocks that a sequence of so many computed tokens still needs.

    Its next token, at position `n_tokens`, sees itself and the `window - 1` before it.
    """
    n_all = -(-n_tokens // block_size)
    n_gone = 0 if window is None else max(0, n_tokens - window + 1) // block_size
    return range(n_gone, n_all)


def variants(shape: KVShape) -> dict[str, tuple[KVLayout, ...]]:
    """The same model's KV as its heads could share it: MHA, GQA and MQA, and MLA where it is one.

    GQA stands for a model that has another variant with 8 KV heads, where those divide its heads.
    """
    key_width, value_width = shape.head_features
    found = {"MHA": _with_heads(shape, shape.n_heads, key_width, value_width)}
    if shape.variant != "GQA" and shape.n_heads % 8 == 0 and shape.n_heads > 8:
        found["GQA"] = _with_heads(shape, 8, key_width, value_width)
    found["MQA"] = _with_heads(shape, 1, key_width, value_width)
    found[shape.variant] = shape.layouts
    return {name: found[name] for name in ("MHA", "GQA", "MQA", "MLA") if name in found}


def bytes_by_format(layouts: Sequence[KVLayout]) -> dict[str, int]:
    """Bytes of a token in every format."""
    return {
        name: sum(token_bytes(layout, one) for layout in layouts) for name, one in FORMATS.items()
    }


def _with_heads(
    shape: KVShape, heads: int, key_width: int, value_width: int
) -> tuple[KVLayout, ...]:
    planes = (KVPlane("k", heads, key_width), KVPlane("v", heads, value_width))
    return tuple(
        KVLayout(layout.n_layers, planes, value_width, layout.window) for layout in shape.layouts
    )


def _term(layout: KVLayout, kv_format: KVFormat) -> str:
    """One layout's share of the formula."""
    first = layout.planes[0]
    number = f"{first.width} x {kv_format.value_bytes}"
    row = f"({number} + {kv_format.scale_bytes} of scale)" if kv_format.scale_bytes else number
    if len(layout.planes) == 1:
        return f"{layout.n_layers} layers x 1 latent x {row}"
    seen = "" if layout.window is None else f" (window {layout.window:,})"
    return f"2 (K, V) x {layout.n_layers} layers{seen} x {first.heads} heads x {row}"
