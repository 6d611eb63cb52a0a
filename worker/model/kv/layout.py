"""KV layout: which numbers one token leaves behind in each layer, by name and size.

Owns the records and the count of bytes that follows from them. No torch: a plan of memory needs no
model. Said by each family's configuration; the pool allocates it, attention reads by it.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class KVPlane:
    """One named tensor of a token in a layer: `heads` rows of `width` features."""

    name: str
    heads: int
    width: int

    @property
    def features(self) -> int:
        return self.heads * self.width


@dataclass(frozen=True, slots=True)
class KVLayout:
    """What a token keeps, alike in each of `n_layers` layers.

    The first plane is what queries are compared with. Attention reads its values from the second
    plane, or, where there is one plane alone (a latent), from the first `value_width` features of
    its rows.
    """

    n_layers: int
    planes: tuple[KVPlane, ...]
    value_width: int  # features of one value
    window: int | None = None  # tokens that a query sees, itself among them; None: all before it

    @classmethod
    def keys_and_values(
        cls, n_layers: int, kv_heads: int, head_dim: int, *, window: int | None = None
    ) -> "KVLayout":
        """K and V for each head: MHA, GQA and MQA differ in the number of heads alone."""
        planes = (KVPlane("k", kv_heads, head_dim), KVPlane("v", kv_heads, head_dim))
        return cls(n_layers, planes, head_dim, window)

    @classmethod
    def latent(cls, n_layers: int, latent_width: int, rotary_width: int) -> "KVLayout":
        """MLA: one row that all heads share, the latent and behind it the rotary key."""
        plane = KVPlane("latent", 1, latent_width + rotary_width)
        return cls(n_layers, (plane,), latent_width)

    @property
    def kv_heads(self) -> int:
        return self.planes[0].heads

    @property
    def features_per_token(self) -> int:
        """Numbers that one token keeps over all layers."""
        return self.n_layers * sum(plane.features for plane in self.planes)

    def bytes_per_token(self, itemsize: int) -> int:
        """Bytes of one token over all layers, with so many bytes a number."""
        return self.features_per_token * itemsize
