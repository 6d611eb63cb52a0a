"""request: what a request is, for the router and the worker alike.

Owns sampling parameters, limits, tokenizers, chat templates and detokenisation, so that every door
enforces the same rules. No I/O but reading tokenizer files from a directory; never logs a prompt.

The way in: `Tokenizer` (`tokenizer.py`) and `Limits` (`limits.py`).

    chat.py          a model's chat template, sandboxed and rendered
    control_tokens.py  what begins and ends turns, and text that only looks like it
    detokenizer.py   token ids to whole characters while they arrive
    encoding.py      a backend's ids, with the interpreter's lock let go of
    errors.py        what the room refuses, cut by what the caller can do
    limits.py        what a request may ask for, and every check of it
    logprobs.py      log probabilities of an answer's tokens, packed
    pacing.py        long conversions stop now and then for other threads
    sampling.py      how to choose tokens and when to stop, complete and validated
    stopping.py      stop strings in a stream of text
    token_bytes.py   the bytes each token id stands for
    tokenizer.py     text and chats to token ids and back; equal tokenizers have equal fingerprints
    verbatim/        requests that only another engine understands, and their answers, as bytes
    wire.py          the wire's messages to this room's records and back
"""
