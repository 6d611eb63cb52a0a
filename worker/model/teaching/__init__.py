"""Attention for study: without a cache, with a contiguous one, with a paged one.

Short on purpose, and exact: the three give the same numbers, and each call counts what it did.
Nothing in the engine uses these files; the lab measures them, `docs/kv-cache.md` tells their story.
Needs torch; one thread, no I/O.

Read them in this order:

    attention.py     Q, K and V of one layer, and how a token looks at those before it
    no_cache.py      nothing is kept: each step computes all K and V again
    contiguous.py    K and V in one long piece of memory, reserved for the longest sequence
    paged.py         K and V in blocks, a table that says where, and blocks that two share
    latent.py        the same layer with one small latent in the cache, as DeepSeek-V2 does it
    formatted.py     a contiguous cache in int8, fp8 and others
    planes.py        what a cache keeps of a token, and the seam that the caches stand behind
    work.py          multiplications and bytes, as they are done
    decoder.py       a whole model made of these layers
    decoder_weights.py  its weights: random, or those of a Llama-family folder
"""
