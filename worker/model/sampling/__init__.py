"""The choice of tokens: from logits to ids, and what is told of them.

Pure functions over torch tensors; nothing here knows a model. A row is changed in no other than its
own place, and what is asked of one row costs the others nothing.

The way in is `choose` (`sampler.py`).

    sampler.py   greedy, temperature, min_p, top-k and top-p with a keyed random number
    shaping.py   what changes logits before a token is drawn: ends, biases, penalties
    ordering.py  the best of a row without sorting all of it
    telling.py   log probabilities of the model's own distribution
"""
