"""The KV cache's memory: what one token keeps in it, in which numbers, and what that costs.

Knows no model and no attention. Layouts, formats and plans are plain arithmetic without torch.

    layout.py     what one token of one layer keeps: named planes of heads and features
    formats.py    in which numbers planes are kept, and the bytes of one
    rounding.py   a tensor as a format keeps it, and back
    shape.py      what a model keeps of a token, by its `config.json` alone
    plan.py       bytes of a token, what fits a memory, what sharing saves
"""
