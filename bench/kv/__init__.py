"""What KV dtypes cost and change, measured through the engine's own pool and attention.

`python -m bench.kv` for the table; `__main__.py` says what is measured.

    perplexity.py   of the demo's texts, by format
    decoding.py     CPU time of a decode step over a long context, by format
"""
