"""Sliding windows: what a configuration says of them, which no family computes yet.

Owns the reading alone. No torch. Called by the families' readers.
"""

from radixroute.worker.errors import ModelError
from radixroute.worker.model.fields import Fields


def must_have_no_window(fields: Fields) -> None:
    """Raises `ModelError` for a model some of whose layers see the last tokens only."""
    if fields.get("use_sliding_window") or _has_window(fields):
        raise ModelError(
            f"{fields.path} asks for sliding-window attention, which this engine lacks"
        )


def _has_window(fields: Fields) -> bool:
    # Qwen writes a window it does not use; Mistral's null means none.
    if fields.get("sliding_window") is None:
        return False
    layers = fields.get("layer_types")
    is_used = isinstance(layers, list) and "sliding_attention" in layers
    return is_used or fields.get("use_sliding_window") is None
