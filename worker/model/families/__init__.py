"""Families: which models this engine computes, one file each.

Owns how a family's configuration is read, what its cache keeps and how its layers are put together.
A new one is a file here and a line in `../registry.py`. What a configuration asks for and a family
does not compute is refused by name, never guessed. No torch at run time: the arithmetic is `Ops`.

    family.py    the seam: `Family`, `ModelConfig`, `Model`
    llama.py     Llama, Mistral, Qwen2: grouped-query attention (MHA and MQA among it), SwiGLU
"""
