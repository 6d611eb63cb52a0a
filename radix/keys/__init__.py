"""radix.keys: tokens into block keys.

Owns the chain of keys and what it is salted with. Never knows where a block is. 1.4 us for 1,000
tokens at block 16.

The way in: `block_keys` (`block_keys.py`), with the seed of a `Scope`, or what it is
for one request (`Scope.seed_of`).

    block_keys.py     keys of a prompt's full blocks, and the proof that they are as written
    kernels.py        SipHash-1-3 over blocks, compiled; imported at first use
    marks.py          hashes of some runs of a prompt's tokens, wherever they stand
    mark_kernels.py   a rolling hash over every run, compiled; imported at first use
    scope.py          model, KV dtype, block size, secret, a request's adapter, salt, tenant:
                      what must not share a key
"""
