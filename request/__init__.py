"""What a request is: sampling parameters, limits, tokenizer, chat template, detokenizer.

Both the router and the worker use this room, so that every face enforces the same limits. No I/O
but reading tokenizer files from a directory.
"""
