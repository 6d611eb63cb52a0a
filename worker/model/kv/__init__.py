"""The KV cache's memory: what one token keeps in it, and the paged pool of it.

Owns layouts and pools. Knows no model and no attention; a model's family says which layout is its
own, an attention backend writes and reads the planes. The layout is plain arithmetic without torch.

    layout.py   what one token of one layer keeps: named planes of heads and features
    pool.py     the planes of every block of every layer, and how many blocks fit
"""
