"""`python -m bench.index`: the prefix index, block keys and event decoding beside NVIDIA Dynamo's.

Owns the sides and what each is fed. One pinned core, sides in turn. Begin with `__main__.py`.

    __main__.py     keys, matches and events beside Dynamo's wheel; runs the other parts
    concurrent.py   Dynamo's concurrent index, as its standalone indexer runs it
    decision.py     a whole decision among 64 workers
    decode.py       raw payloads of events, decoded and applied
    exact.py        three indexes and brute force over the same streams
    growth.py       memory and speed up to 50 million blocks
    sides.py        both sides, each with the input that it likes best
    trace.py        the workload: a real trace as tokens, keys and placements
    tree.py         the worker's `RadixTree` under each eviction policy
"""
