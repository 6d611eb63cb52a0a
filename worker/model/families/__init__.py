"""Families: which models this engine computes, one file each.

Owns how a family's configuration is read, what its cache keeps and how its layers are put together.
A new one is a file here and a line in `../registry.py`. What a configuration asks for and a family
does not compute is refused by name, never guessed. No torch at run time: the arithmetic is `Ops`.

    family.py        the seam: `Family`, `ModelConfig`, `Model`
    llama.py         Llama, Mistral, Qwen2: grouped-query attention (MHA and MQA among it), SwiGLU
    qwen3.py         Qwen3: the same with a norm over queries and keys
    gpt2.py          GPT-2: MHA, learned positions, LayerNorm, GELU
    deepseek_v2.py   DeepSeek-V2: MLA, whose cache holds a latent; shared and routed experts
    mixtral.py       Mixtral: a Llama with routed experts
"""
