"""The model: from files on disk to the next token of every sequence in a step, in torch.

Owns weights, the KV pool's memory, the arithmetic and the choice of tokens, and how a model's files
are found and read, GGUF among them. Never schedules, never keeps time and never opens a socket;
which block belongs to whom is the engine's business.

The way in is `load_runner` (`torch_runner.py`); how a GGUF file is read is in `gguf_file.py`.

    torch_runner.py      loads a model and computes step plans: a `ModelRunner`
    folder.py            a Hugging Face folder as it is, a GGUF file converted once
    gguf_file.py         how a GGUF file is read: tensors, names, configuration
    gguf_tokenizer.py    the tokenizer inside a GGUF file
    config.py            a model's sizes, read from `config.json` and checked
    fields.py            fields of JSON files, by name and type
    weights.py           tensors by name, checked; the fingerprint of a model
    llama.py             the Llama-family forward
    attention.py         attention over the paged KV pool, behind one seam
    tiled_attention.py   causal attention in bfloat16 on a CPU
    kv/                  what a token keeps, in which numbers, what it costs
    kv_pool.py           K and V of every block of every layer
    teaching/            attention for study: without a cache, with one, paged, latent
    sampling/            the choice of tokens: penalties, the keyed draw, log probabilities
"""
