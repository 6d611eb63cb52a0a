"""Attention over the paged KV pool, behind one seam.

Owns how queries meet what the pool holds. Never decides which block is whose, and knows no model:
the pool's layout says what a row is.

    backend.py    the `AttentionBackend` seam: plan a step, write rows, read rows
    context.py    which positions a slice's tokens see, and in which blocks those lie
    sdpa.py       gathers pages and calls torch's scaled_dot_product_attention
    invariant.py  the same bits for a token whatever is computed beside it
    tiled.py      causal attention in bfloat16 on a CPU
"""
