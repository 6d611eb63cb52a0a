"""`python -m bench.numerics`: are answers the same whatever runs beside them, and at what cost.

Every prompt is answered alone, then batched with others, in chunks, after preemption and from the
cache; greedy tokens are compared one by one. Begin with `ways.py`.

    __main__.py   options, progress, the file
    cost.py       `invariant` against `fast`: prefill and decode by processor time
    prompts.py    prompts that share beginnings, without end, from a seed
    verdict.py    where answers part, and whether that is a tie; the record
    ways.py       the ways to run a group of prompts, and the reference they are held against
"""
