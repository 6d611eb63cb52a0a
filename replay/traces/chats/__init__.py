"""Logs of chats as traces: text in, lengths and prefixes out. No text leaves this folder.

Owns the forms that such logs have, and what a request of a chat is: each answer was asked for by
all that stands above it. The tokenizer is whoever reads it's.

The way in: `SHAREGPT` and `WILDCHAT` in `formats.py`.

    encoder.py       the seam of tokenizers
    formats.py       logs as trace formats: when each request comes, and its blocks
    logged.py        the messages of one row, in the forms that logs have
    tokenized.py     requests of a chat by a model's tokenizer
"""
