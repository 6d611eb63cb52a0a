"""Sliding windows: what a configuration says of them.

Owns the reading alone. No torch. Called by the families' readers. A window that every layer has is
computed; where layers differ the model is refused by name.
"""

from radixroute.worker.errors import ModelError
from radixroute.worker.model.fields import Fields


def read_window(fields: Fields) -> int | None:
    """Tokens that a token sees in every layer, itself among them; None: all before it.

    Raises `ModelError` for a model some of whose layers have a window and some have none.
    """
    switch, kinds = fields.get("use_sliding_window"), fields.get("layer_types")
    named = set(map(str, kinds)) if isinstance(kinds, list) else None
    # Mistral says no more than the window, Qwen adds a switch and which layers: as a list, or as
    # the first of them.
    in_every_layer = named == {_SLIDING} if named is not None else switch is None
    if fields.get("sliding_window") is not None and in_every_layer and switch is not False:
        return fields.count("sliding_window")
    must_have_no_window(fields)
    return None


def must_have_no_window(fields: Fields) -> None:
    """Raises `ModelError` for a model some of whose layers see the last tokens only."""
    if fields.get("use_sliding_window") or _has_window(fields):
        raise ModelError(
            f"{fields.path} asks for sliding-window attention in a form that this engine lacks: "
            "it computes one window that every layer has (sliding_window of Mistral)"
        )


def _has_window(fields: Fields) -> bool:
    # Qwen writes a window it does not use; Mistral's null means none.
    if fields.get("sliding_window") is None:
        return False
    layers = fields.get("layer_types")
    is_used = isinstance(layers, list) and _SLIDING in layers
    return is_used or fields.get("use_sliding_window") is None


_SLIDING = "sliding_attention"
