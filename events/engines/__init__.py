"""events.engines: what other engines say of their caches, in our events.

Owns the forms of vLLM (every version) and SGLang, and the tables from their hashes to our keys.
Never believes more than was said: what cannot be keyed truthfully is dropped under a counter.

The way in: `EngineStream` (`engine_stream.py`), one endpoint's batches in order.

    vllm.py                decoder: any bytes end in foreign records or one error
    foreign.py             those records, neutral
    flat.py                the fast path: a batch as words, no object a block
    foreign_kernels.py     its kernels
    engine_stream.py       `EngineStream`: order, gaps, vLLM's replay endpoint, ranks
    adapter.py             `EngineAdapter`: what a `BlockStored` of theirs becomes
    translate_kernels.py   the same for plain events, in one call
    names.py               `NameTable`: which block each engine hash stands for
    names_kernels.py       its kernels: open addressing, compared whole, grown a few at a time
    names_layout.py        every constant of its arrays
    names_check.py         proves that the arrays agree
    scope_book.py          numbers for the scopes of an engine's blocks
"""
