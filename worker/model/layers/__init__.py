"""Layers: what families are made of, and the one door to the arithmetic.

Owns pieces that more than one family uses. Layers and families need no torch at run time:
they call `Ops`, so that how numbers are computed can be exchanged.

    ops.py             `Ops`: every product, norm and activation between attention calls
    invariant_ops.py   the same with rows that depend on themselves alone, to the last bit
    row_tiles.py       products at a few fixed row counts; what was found of them on a machine
    linear.py          one matrix with its bias; those that read the same input are one
    rope.py            rotary positions as a configuration says them
    window.py          sliding windows as a configuration says them
    rotary.py          cos and sin of every position
    grouped.py         attention with K and V for groups of heads
    mlp.py             gated feed-forward
    experts.py         mixture of experts: a router and gated feed-forwards
    latent.py          MLA: attention that reads a latent all heads share
    decoder.py         the stack: embedding, pre-norm layers, head
"""
