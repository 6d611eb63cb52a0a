"""The KV cache's memory: what one token keeps in it, in which numbers, and the paged pool of it.

Owns layouts, formats, pools and plans. Knows no model and no attention; a model's family says which
layout is its own, an attention backend writes and reads the planes. Layouts, formats and plans are
plain arithmetic without torch.

    layout.py     what one token of one layer keeps: named planes of heads and features
    formats.py    in which numbers planes are kept, and the bytes of one
    rounding.py   a tensor as a format keeps it, and back
    pool.py       the planes of every block of every layer, and how many blocks fit
    shape.py      what a model keeps of a token, by its `config.json` alone
    plan.py       bytes of a token, what fits a memory, what sharing saves
"""
