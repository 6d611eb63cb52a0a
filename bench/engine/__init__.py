"""`python -m bench.engine`: our engine against `transformers`, and what serving costs.

Owns the comparisons and how they are made fair: same weights, threads and token ids, sides in turn.
Begin with `plan.py`.

    __main__.py   options, progress, the file
    laps.py       laps and their medians: one row a comparison
    live.py       the engine behind its services, on loopback
    ours.py       our engine as it is driven here
    peer.py       `transformers` as it is driven here
    plan.py       which sides meet, over what, in how many rounds
    table.py      the table at the end, and facts about both sides
"""
