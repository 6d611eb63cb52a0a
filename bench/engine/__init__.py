"""`python -m bench.engine`: our engine against `transformers` and vLLM, and what serving costs.

Owns the comparisons and how they are made fair: same weights, threads and token ids, sides in turn.
Begin with `plan.py`.

    __main__.py            options, progress, the file
    laps.py                laps and their medians: one row a comparison
    limits.py              what the machine could do at most, and what a call asks of it
    live.py                the engine behind its services, on loopback
    ours.py                our engine as it is driven here
    plan.py                which sides meet, over what, in how many rounds
    spent.py               where a step's time goes
    table.py               the table at the end, and facts about all sides
    transformers_peer.py   `transformers` as it is driven here
    vllm_child.py          runs in vLLM's own environment
    vllm_peer.py           that process, from here
"""
