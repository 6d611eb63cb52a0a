"""The experiments: each measures one question and gives a `Result`; one file each.

An experiment takes a `Bench` and returns numbers, plots and a paragraph written from these numbers.
It keeps nothing, and knows no other experiment.

    caches.py         no cache, contiguous, paged, paged with a prefix hit: time and memory
    rooflines.py      prefill and decode on the roofline of this machine
    fragmentation.py  memory that holds nothing: contiguous against paged, and block sizes
    variants.py       MHA, GQA, MQA and MLA at equal width
    dtypes.py         K and V in fewer bits: memory, speed, perplexity
    windows.py        sliding windows: memory and perplexity
    crossover.py      where caching does not pay, and the first token
    editing.py        a conversation whose history is edited
    sharing.py        one prefix for many users, on one worker and on two
    engine.py         the same model in vLLM, where it is installed
"""
