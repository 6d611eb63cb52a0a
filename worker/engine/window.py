"""Sliding window: which blocks of a sequence no token to come can see. Arithmetic alone.

A token at position p sees itself and the `window - 1` tokens before it, in every layer: blocks that
end before that hold nothing that is read again. Called by the cache, the scheduler and KV plans.
"""


def n_blocks_gone(n_computed: int, block_size: int, window: int | None) -> int:
    """Leading blocks that nobody reads once `n_computed` tokens are computed."""
    return 0 if window is None else max(0, n_computed - window + 1) // block_size


def most_blocks_at_once(n_tokens: int, block_size: int, window: int | None, n_step: int) -> int:
    """Blocks that a sequence of `n_tokens` ever needs in one step of at most `n_step` tokens.

    A step reads and writes `n_step + window - 1` positions in a row, wherever blocks begin.
    """
    n_all = -(-n_tokens // block_size)
    if window is None:
        return n_all
    return min(n_all, -(-(n_step + window - 2) // block_size) + 1)
