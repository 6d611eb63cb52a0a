"""The model: from files on disk to the next token of every sequence in a step, in torch.

Owns weights, the KV pool's memory, the arithmetic and the choice of tokens, and how a model's files
are found and read, GGUF among them. Never schedules, never keeps time and never opens a socket;
which block belongs to whom is the engine's business.

The way in is `load_runner` (`torch_runner.py`); how a GGUF file is read is in `gguf_file.py`.

    torch_runner.py      loads a model and computes step plans: a `ModelRunner`
    registry.py          the table of families; a folder's configuration, or why it is refused
    families/            one file for each family of models
    layers/              what families are made of, and `Ops`, the arithmetic they share
    kv/                  what a token keeps in the cache, and the paged pool of it
    attention/           attention over that pool, behind one seam
    cpu/                 the same arithmetic on one CPU thread, by kernels of our own
    sampling/            the choice of tokens: penalties, the keyed draw, log probabilities
    weights.py           tensors by name, checked; the fingerprint of a model
    folder.py            a Hugging Face folder as it is, a GGUF file converted once
    gguf_file.py         how a GGUF file is read: tensors, names, configuration
    gguf_tokenizer.py    the tokenizer inside a GGUF file
    fields.py            fields of JSON files, by name and type
    teaching/            attention for study: without a cache, with one, paged, latent
"""
