"""Layers: what families are made of, and the one door to the arithmetic.

Owns pieces that more than one family uses. No file here but `ops.py` and `rotary.py` needs torch at
run time: layers and families call `Ops`, so that how numbers are computed can be exchanged.

    ops.py        `Ops`: every product, norm and activation between attention calls
    linear.py     one matrix with its bias, read from a folder, fused where the input is the same
    rope.py       rotary positions as a configuration says them
    window.py     sliding windows as a configuration says them
    rotary.py     cos and sin of every position
    grouped.py    attention with K and V for groups of heads
    mlp.py        gated feed-forward
    experts.py    mixture of experts: a router and gated feed-forwards
    latent.py     MLA: attention that reads a latent all heads share
    decoder.py    the stack: embedding, pre-norm layers, head
"""
