"""Memo: what a router remembers of prompts, so that of a chat only what is new is tokenised.

A chat grows by turns, and its earlier turns were tokenised before. Pieces of a prompt lie between
places where its tokenizer surely begins anew; each is named by a keyed digest of all text up to its
end, in the scope of its request. Kept are these names and token ids, bounded by bytes and by the
time since they were used last; no text. Never logs either.

The way in: `PromptMemo` in `prompt_memo.py`.

    memo.py          pieces by name, the longest unused go first; what one prompt finds and adds
    prompt_memo.py   a router's: names begin with a secret and a scope; its counters
"""
