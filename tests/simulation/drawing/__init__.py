"""What a seed draws: a plan. Pure: a seed in, data out.

by_seed.py    which kind of day a seed is
usual.py      usual days, by mode: some of each fault
special.py    days that a bug needs for itself: many wait, all are alike, many copies, long chains
scopes.py     what requests of a usual day share their blocks by
verbatim.py   which of them only some engines understand
"""
