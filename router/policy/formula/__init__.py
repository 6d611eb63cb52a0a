"""Formula: what turns a cost or a rule from a paper, or from another router, into a policy.

Owns no policy itself; `baselines/` is made of these. The way in: `published` in `at_once.py`.

    at_once.py           a policy that is one formula; requests go as they come
    shortest_first.py    a queue in front of a policy that has none
    active_blocks.py     prompt blocks in use on each worker, for formulas that count them
    hashing.py           numbers of workers and of how prompts begin
"""
